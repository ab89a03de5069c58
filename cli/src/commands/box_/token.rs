use clap::Subcommand;
use posada_box_server::{Repository, Scopes, Storage, TokenInfo};
use serde_json::json;

use super::serve::location;
use crate::context::Context;
use crate::exit::ExitStatus;
use crate::failure::{Failure, Result};
use crate::printer::style::columns;

/// Manage who may fetch from a repository and push to it
///
/// They work on the repository's storage, whether it is being served or not; what they change holds from the next request on.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a token and print it: it is not kept, and cannot be shown again
    Create {
        #[command(flatten)]
        of: Of,

        /// What it is called: `ci`
        #[arg(value_name = "NAME")]
        name: String,

        /// The namespace whose boxes may be fetched, `*` for all; may be given again
        #[arg(long, value_name = "NAMESPACE")]
        read: Vec<String>,

        /// The namespace into which boxes may be pushed, `*` for all; may be given again
        #[arg(long, value_name = "NAMESPACE")]
        push: Vec<String>,
    },
    /// List the tokens there are
    List {
        #[command(flatten)]
        of: Of,
    },
    /// Make a token worthless
    Revoke {
        #[command(flatten)]
        of: Of,

        /// What it is called
        #[arg(value_name = "NAME")]
        name: String,
    },
}

#[derive(Debug, clap::Args)]
struct Of {
    /// Where the repository is kept, as for `posada box serve`
    #[arg(value_name = "STORAGE")]
    storage: String,
}

impl Of {
    async fn repository(&self) -> Result<Repository> {
        Ok(Repository::new(Storage::open(&location(&self.storage)?).await?))
    }
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let printer = &context.printer;
    let tick = || printer.err_palette().tick();
    context.block_on(async {
        match args.command {
            Command::Create { of, name, read, push } => {
                let scopes = Scopes { read, push };
                let token = of.repository().await?.create_token(&name, scopes.clone()).await?;
                printer.note(&format!("{} token {name}: {}", tick(), in_words(&scopes)));
                printer.line(&token);
                printer.json(
                    &json!({"event": "token_created", "name": name, "token": token, "read": scopes.read,
                    "push": scopes.push}),
                );
            }
            Command::List { of } => {
                let tokens = of.repository().await?.tokens().await?;
                for line in columns(&tokens.iter().map(row).collect::<Vec<_>>()) {
                    printer.line(&line);
                }
                for token in &tokens {
                    printer.json(&json!({"event": "token", "name": token.name, "read": token.scopes.read,
                        "push": token.scopes.push, "created": token.created.timestamp()}));
                }
            }
            Command::Revoke { of, name } => {
                of.repository().await?.revoke_token(&name).await?;
                printer.note(&format!("{} token {name} is worthless now", tick()));
                printer.json(&json!({"event": "token_revoked", "name": name}));
            }
        }
        Ok::<_, Failure>(ExitStatus::OK)
    })?
}

fn row(token: &TokenInfo) -> Vec<String> {
    vec![token.name.clone(), in_words(&token.scopes), token.created.format("%F").to_string()]
}

fn in_words(scopes: &Scopes) -> String {
    let part =
        |what: &str, list: &[String]| (!list.is_empty()).then(|| format!("{what} {}", list.join(", ")));
    let parts: Vec<String> =
        [part("fetches", &scopes.read), part("pushes", &scopes.push)].into_iter().flatten().collect();
    if parts.is_empty() { "nothing".to_owned() } else { parts.join("; ") }
}
