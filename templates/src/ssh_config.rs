//! The configuration by which the system's ssh reaches machines (ssh_config(5)).

use std::path::PathBuf;

use serde::Serialize;

use crate::renderer::{TemplateError, render};

/// What the system's ssh needs to log into one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SshHost {
    /// What the user calls it: `ssh NAME`.
    pub name: String,
    /// Address on the host.
    pub host_name: String,
    /// Port on the host.
    pub port: u16,
    /// Login user.
    pub user: String,
    /// Private key of the machine.
    pub identity_file: PathBuf,
    /// File with the pinned host key.
    pub known_hosts: PathBuf,
    /// What the host key is filed under: ports change, this does not.
    pub host_key_alias: String,
    /// Whether the caller's agent is passed on.
    pub forward_agent: bool,
}

/// A configuration with one `Host` section a machine.
///
/// # Errors
/// [`TemplateError`], a fault of ours.
pub fn render_ssh_config(hosts: &[SshHost]) -> Result<String, TemplateError> {
    #[derive(Serialize)]
    struct Input<'a> {
        hosts: &'a [SshHost],
    }
    render("ssh_config", include_str!("../assets/ssh_config.tera"), &Input { hosts })
}

/// A path as ssh_config(5) reads it back: in quotes, with `%` doubled as it begins a token.
fn quoted(path: &str) -> String {
    let escaped = path.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%");
    format!("\"{escaped}\"")
}

/// [`quoted`] as a filter.
pub(crate) fn quoted_filter(path: &str, _: tera::Kwargs, _: &tera::State) -> String {
    quoted(path)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn the_system_ssh_reads_it_back() {
        let host = |name: &str, port| SshHost {
            name: name.to_owned(),
            host_name: "127.0.0.1".to_owned(),
            port,
            user: "posada".to_owned(),
            identity_file: "/a path/100%/id_ed25519".into(),
            known_hosts: "/a path/known_hosts".into(),
            host_key_alias: format!("{name}-3f9a1c20"),
            forward_agent: name == "db",
        };
        let text = render_ssh_config(&[host("web", 2222), host("db", 2200)]).unwrap();
        let temp = tempfile::tempdir().unwrap();
        let file = temp.path().join("config");
        std::fs::write(&file, &text).unwrap();
        let output = Command::new("ssh").arg("-G").arg("-F").arg(&file).arg("db").output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read = String::from_utf8(output.stdout).unwrap();
        for line in [
            "user posada",
            "hostname 127.0.0.1",
            "port 2200",
            "hostkeyalias db-3f9a1c20",
            "identitiesonly yes",
            "stricthostkeychecking true",
            "passwordauthentication no",
            "forwardagent yes",
        ] {
            assert!(read.lines().any(|l| l == line), "{line} in\n{read}");
        }
        assert!(
            read.contains("/a path/100%%/id_ed25519") || read.contains("/a path/100%/id_ed25519"),
            "{read}"
        );
        assert!(read.contains("/a path/known_hosts"), "{read}");
    }
}
