use posada_orchestrator::doctor::{Check, Site, Verdict, examine};
use serde_json::json;

use crate::commands::common::count;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::printer::style::{Palette, width};

/// Check what this host can do, and tell what to do about the rest
#[derive(Debug, clap::Args)]
pub struct Args {}

pub fn run(_: Args, context: &Context) -> Result<ExitStatus> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let checks = examine(&Site::here(context.host.home.clone(), path));
    let printer = &context.printer;
    for line in table(&checks, printer.palette()) {
        printer.line(&line);
    }
    for check in &checks {
        printer.json(&json!({
            "event": "check",
            "name": check.name,
            "verdict": check.verdict,
            "finding": check.finding,
            "remedy": check.remedy,
        }));
    }
    match checks.iter().filter(|check| check.verdict == Verdict::Bad).count() {
        0 => Ok(ExitStatus::OK),
        bad => {
            Err(CliError::Unhealthy(format!("{} in the way of running machines", count(bad, "thing is")))
                .into())
        }
    }
}

fn table(checks: &[Check], palette: Palette) -> Vec<String> {
    let room = checks.iter().map(|check| width(check.name)).max().unwrap_or(0);
    let mut lines = Vec::new();
    for check in checks {
        let mark = match check.verdict {
            Verdict::Ok => palette.tick(),
            Verdict::Warn => palette.bang(),
            Verdict::Bad => palette.cross(),
        };
        lines.push(format!("{mark} {:room$}  {}", check.name, check.finding));
        if let Some(remedy) = &check.remedy {
            lines.push(format!("  {:room$}  {}", "", palette.offer(remedy)));
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remedies_stand_below_their_findings() {
        let checks = [
            Check { name: "kvm", verdict: Verdict::Ok, finding: "works".to_owned(), remedy: None },
            Check {
                name: "overlayfs",
                verdict: Verdict::Bad,
                finding: "not known".to_owned(),
                remedy: Some("run `modprobe overlay`".to_owned()),
            },
        ];
        assert_eq!(
            table(&checks, Palette { colors: false, unicode: true }),
            ["✔ kvm        works", "✘ overlayfs  not known", "             run `modprobe overlay`"]
        );
    }
}
