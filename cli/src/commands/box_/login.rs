use std::io::{IsTerminal as _, Read as _};

use posada_fetch::{FetchError, Stop, Token};
use serde::Deserialize;
use serde_json::json;
use url::Url;

use crate::context::{Context, env};
use crate::exit::ExitStatus;
use crate::failure::{CliError, Result};
use crate::servers::{ClientArgs, Servers, client_with, server};

/// Bytes of a token, and of what a server says of one, that are read.
const MAX: u64 = 64 << 10;

/// Keep a token for a repository
///
/// The token is asked for, or taken from standard input where that is no terminal, or from POSADA_SERVER_TOKEN. It is checked
/// with the server first, and sent to no other one. The first server is where boxes come from, unless POSADA_SERVER_URL names
/// another.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The repository's URL
    #[arg(value_name = "URL", value_parser = server)]
    server: Url,

    /// Have boxes come from there, where nothing else is said
    #[arg(long)]
    default: bool,

    #[command(flatten)]
    client: ClientArgs,
}

/// Forget a repository and its token
#[derive(Debug, clap::Args)]
pub struct LogoutArgs {
    /// The repository's URL
    #[arg(value_name = "URL", value_parser = server)]
    server: Url,
}

#[derive(Deserialize)]
struct Whoami {
    name: Option<String>,
    read: Vec<String>,
    push: Vec<String>,
}

pub fn run(args: Args, context: &Context) -> Result<ExitStatus> {
    let printer = &context.printer;
    let token = token(&args.server, printer.is_json())?;
    let tokens = vec![Token { server: args.server.clone(), secret: token.clone().into() }];
    let client = client_with(&args.client, tokens)?;
    let base = format!("{}/", args.server.as_str().trim_end_matches('/'));
    let url = Url::parse(&base).and_then(|base| base.join("api/v1/whoami"));
    let url = url.map_err(|error| CliError::usage(error.to_string(), "write `https://boxes.example.org`"))?;
    let answer = client.get(&url, Some("application/json"), MAX, &Stop::default());
    let answer = match answer {
        Err(FetchError::Refused { .. }) => {
            let hint = "whoever runs it makes tokens with `posada box token create`";
            return Err(CliError::usage(format!("{} does not know this token", args.server), hint).into());
        }
        answer => answer?,
    };
    let who: Whoami = serde_json::from_slice(&answer.bytes).map_err(|_| {
        CliError::usage(
            format!("{} is no repository of posada's", args.server),
            "is the URL written correctly?",
        )
    })?;
    let Some(name) = who.name else {
        let hint = "is all of it there? It begins with `posada_`";
        return Err(CliError::usage(format!("{} does not know this token", args.server), hint).into());
    };
    let mut servers = Servers::load(&context.host.home)?;
    servers.log_in(args.server.clone(), token, args.default);
    servers.save(&context.host.home)?;
    let palette = printer.err_palette();
    printer.note(&format!("{} logged in to {} as {}", palette.tick(), args.server, palette.strong(&name)));
    printer.json(&json!({"event": "logged_in", "server": args.server, "name": name, "read": who.read, "push": who.push}));
    Ok(ExitStatus::OK)
}

/// Forgets a server.
///
/// # Errors
/// [`CliError::Usage`] where it is not known.
pub fn logout(args: LogoutArgs, context: &Context) -> Result<ExitStatus> {
    let mut servers = Servers::load(&context.host.home)?;
    if !servers.log_out(&args.server) {
        let hint = "nothing was done";
        return Err(CliError::usage(format!("nothing is kept for {}", args.server), hint).into());
    }
    servers.save(&context.host.home)?;
    let printer = &context.printer;
    printer.note(&format!("{} logged out of {}", printer.err_palette().tick(), args.server));
    printer.json(&json!({"event": "logged_out", "server": args.server}));
    Ok(ExitStatus::OK)
}

fn token(server: &Url, json: bool) -> Result<String> {
    if let Some(given) = env("POSADA_SERVER_TOKEN").filter(|given| !given.is_empty()) {
        return Ok(given);
    }
    let stdin = std::io::stdin();
    let token = if stdin.is_terminal() && !json {
        let asked = dialoguer::Password::new().with_prompt(format!("Token for {server}")).interact();
        asked.map_err(|dialoguer::Error::IO(error)| CliError::host("the token cannot be asked for", error))?
    } else {
        let mut text = String::new();
        let read = stdin.lock().take(MAX).read_to_string(&mut text);
        read.map_err(|error| CliError::host("the token cannot be read", error))?;
        text
    };
    let token = token.trim().to_owned();
    if token.is_empty() || token.contains(|c: char| c.is_whitespace() || c.is_control()) {
        let hint = "give it on standard input, or in POSADA_SERVER_TOKEN";
        return Err(CliError::usage("no token was given", hint).into());
    }
    Ok(token)
}
