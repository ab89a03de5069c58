use std::path::PathBuf;

use clap::Subcommand;
use posada_box_catalog::trust::{PublicKey, SigningKey};
use serde_json::json;

use crate::commands::common::can_ask;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::trust::{kept, password, save};

/// Say whose boxes are taken
///
/// A box that is fetched, and whose namespace has keys, is taken only if one of them has signed it.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Trust a key with the boxes of a namespace
    Add {
        /// What stands before the slash in their names: `team`
        #[arg(value_name = "NAMESPACE")]
        namespace: String,

        /// The key as it is shown, `RW…`, or the file that it is in
        #[arg(value_name = "KEY")]
        key: String,
    },
    /// List who is trusted with what
    List,
    /// Trust a key no more, or without a key all of a namespace
    Remove {
        /// The namespace
        #[arg(value_name = "NAMESPACE")]
        namespace: String,

        /// The key, or its file
        #[arg(value_name = "KEY")]
        key: Option<String>,
    },
    /// Refuse boxes of namespaces that have no key, or take them
    RequireSigned {
        /// Whether all boxes that are fetched have to be signed
        #[arg(value_name = "yes|no", value_parser = clap::builder::BoolishValueParser::new(), action = clap::ArgAction::Set)]
        required: bool,
    },
}

/// Make a key that signs boxes
///
/// FILE is the key, for you alone, and FILE.pub what signatures are held against; both are as minisign's are. The password is asked
/// for, or that of POSADA_SIGNING_PASSWORD.
#[derive(Debug, clap::Args)]
pub struct KeygenArgs {
    /// The file
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Make one that needs no password, such as for CI
    #[arg(long)]
    no_password: bool,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let (home, printer) = (&context.host.home, &context.printer);
    let tick = printer.err_palette().tick();
    let mut trust = kept(home)?;
    match args.command {
        Command::Add { namespace, key } => {
            let namespace = plain(namespace)?;
            let key = public_key(&key)?;
            let keys = trust.keys.entry(namespace.clone()).or_default();
            if !keys.contains(&key) {
                keys.push(key.clone());
            }
            save(home, &trust)?;
            printer.note(&format!("{tick} boxes of {namespace} are to be signed by {key}"));
            printer.json(&json!({"event": "trusted", "namespace": namespace, "key": key}));
        }
        Command::List => {
            for (namespace, key) in
                trust.keys.iter().flat_map(|(space, keys)| keys.iter().map(move |key| (space, key)))
            {
                printer.line(&format!("{namespace}  {key}"));
                printer.json(&json!({"event": "trusted", "namespace": namespace, "key": key}));
            }
            let others = if trust.require_signed { "are refused" } else { "are taken unsigned" };
            printer.note(&format!("boxes of all other namespaces {others}"));
            printer.json(&json!({"event": "signatures", "required": trust.require_signed}));
        }
        Command::Remove { namespace, key } => {
            let key = key.map(|key| public_key(&key)).transpose()?;
            let keys = trust.keys.get_mut(&namespace);
            let before = keys.as_ref().map_or(0, |keys| keys.len());
            let left = keys.map_or(0, |keys| {
                keys.retain(|known| key.as_ref().is_some_and(|key| key != known));
                keys.len()
            });
            if left == before {
                let hint = "`posada box trust list` shows what is";
                return Err(CliError::usage(format!("no such key is trusted with {namespace}"), hint).into());
            }
            trust.keys.retain(|_, keys| !keys.is_empty());
            save(home, &trust)?;
            printer.note(&format!("{tick} {namespace} has {left} keys left"));
            printer.json(&json!({"event": "distrusted", "namespace": namespace, "left": left}));
        }
        Command::RequireSigned { required } => {
            trust.require_signed = required;
            save(home, &trust)?;
            let now = if required { "refused" } else { "taken" };
            printer.note(&format!("{tick} boxes of namespaces without a key are {now}"));
            printer.json(&json!({"event": "signatures", "required": required}));
        }
    }
    Ok(ExitStatus::OK)
}

/// Makes a key.
///
/// # Errors
/// [`CliError`] where there is a file already, or no password.
pub fn keygen(args: KeygenArgs, context: &Context) -> Result<ExitStatus> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;

    let printer = &context.printer;
    let mut name = args.file.clone().into_os_string();
    name.push(".pub");
    let public = PathBuf::from(name);
    if args.file.exists() || public.exists() {
        let message = format!("there is a file `{}` already", args.file.display());
        return Err(
            CliError::usage(message, "choose another name: a key that is lost cannot be made again").into()
        );
    }
    let password = if args.no_password { None } else { Some(password(can_ask(printer), true)?) };
    let (secret, key) = SigningKey::generate_file(password)?;
    let write = |path: &PathBuf, mode: u32, text: &str| -> std::io::Result<()> {
        let mut file = std::fs::File::options().write(true).create_new(true).mode(mode).open(path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    let failed = |error| CliError::host("the key cannot be written", error);
    write(&args.file, 0o600, &secret).map_err(failed)?;
    write(&public, 0o644, &format!("untrusted comment: posada box public key\n{key}\n")).map_err(failed)?;
    printer.note(&format!("{} {}; others trust it by", printer.err_palette().tick(), args.file.display()));
    printer.line(&format!("posada box trust add NAMESPACE {key}"));
    printer.json(&json!({"event": "key_created", "file": args.file, "public_file": public, "key": key}));
    Ok(ExitStatus::OK)
}

fn plain(namespace: String) -> Result<String> {
    if !namespace.is_empty() && namespace.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)) {
        return Ok(namespace);
    }
    let hint = "it is what stands before the slash in the names of boxes, such as `team`";
    Err(CliError::usage(format!("`{namespace}` is no namespace"), hint).into())
}

fn public_key(text: &str) -> Result<PublicKey> {
    match fs_err::read_to_string(text) {
        Ok(file) => Ok(PublicKey::parse(&file)?),
        Err(_) => Ok(PublicKey::parse(text)?),
    }
}
