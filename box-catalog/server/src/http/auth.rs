//! Who asks, and what that allows.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use http::{HeaderMap, StatusCode, Uri, header};

use super::Site;
use crate::refusal::Refusal;
use crate::repository::{Access, Identity};

/// Finds out who asks; a token that nobody knows is refused here, whatever is asked for.
pub(super) async fn identify(State(site): State<Site>, mut request: Request, next: Next) -> Response {
    let identity = match secret(request.headers(), request.uri()) {
        None => Identity::anonymous(site.0.settings.anonymous_read),
        Some(secret) => match site.repository().identify(&secret).await {
            Ok(Some(identity)) => identity,
            Ok(None) => return unknown().into_response(),
            Err(error) => return Refusal::from(error).into_response(),
        },
    };
    let name = identity.name.clone();
    request.extensions_mut().insert(identity);
    let mut response = next.run(request).await;
    if let Some(name) = name {
        response.extensions_mut().insert(TokenName(name));
    }
    response
}

/// Whose request it was, on its way to the access log.
#[derive(Debug, Clone)]
pub(super) struct TokenName(pub String);

/// The token that came with a request.
fn secret(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    let header = headers.get(header::AUTHORIZATION).map(|value| {
        let text = value.to_str().unwrap_or_default();
        let (scheme, secret) = text.split_once(' ').unwrap_or((text, ""));
        if scheme.eq_ignore_ascii_case("bearer") { secret.trim().to_owned() } else { String::new() }
    });
    let query = || {
        let pairs = url::form_urlencoded::parse(uri.query()?.as_bytes());
        pairs.into_iter().find(|(name, _)| name == "access_token").map(|(_, value)| value.into_owned())
    };
    header.or_else(query)
}

/// Whether that may be done with the boxes of `namespace`.
pub(super) fn check(identity: &Identity, access: Access, namespace: &str) -> Result<(), Refusal> {
    allowed(identity, identity.may(access, namespace), || match access {
        Access::Read => format!("this token does not allow to fetch boxes of `{namespace}`"),
        Access::Push => format!("this token does not allow to push boxes into `{namespace}`"),
    })
}

/// Whether that may be done with any box at all.
pub(super) fn check_somewhere(identity: &Identity, access: Access) -> Result<(), Refusal> {
    allowed(identity, identity.may_somewhere(access), || "this token does not allow that".to_owned())
}

fn allowed(identity: &Identity, allowed: bool, why: impl FnOnce() -> String) -> Result<(), Refusal> {
    match (allowed, &identity.name) {
        (true, _) => Ok(()),
        (false, Some(_)) => Err(Refusal::new(StatusCode::FORBIDDEN, why())),
        (false, None) => Err(Refusal::new(StatusCode::UNAUTHORIZED, "this needs a token")
            .hint("`posada box login` keeps one; others send it as `Authorization: Bearer …`")),
    }
}

fn unknown() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "this token is not known here")
        .hint("it may have been revoked; whoever runs the server makes tokens: `posada box token create`")
}
