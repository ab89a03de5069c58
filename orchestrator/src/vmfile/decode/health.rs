//! `healthcheck` and `ssh`.

use std::time::Duration;

use super::{Decoder, Given, Located};
use crate::vmfile::config::{HealthCheck, HealthTest};
use crate::vmfile::node::shorten;
use crate::vmfile::table;

/// What one layer of a Vmfile says of `ssh`.
#[derive(Debug, Clone, Default)]
pub(in crate::vmfile) struct SshLayer {
    pub(in crate::vmfile) username: Option<String>,
    pub(in crate::vmfile) port: Option<Located<u16>>,
    pub(in crate::vmfile) forward_agent: Option<bool>,
    pub(in crate::vmfile) boot_timeout: Option<Duration>,
}

impl Decoder<'_> {
    pub(super) fn ssh(&mut self, given: Given<'_>) -> SshLayer {
        let Some(fields) = self.fields(given, &table::SSH) else { return SshLayer::default() };
        SshLayer {
            username: fields.get("username").and_then(|given| {
                self.parsed(&given, |text| {
                    let first = text.starts_with(|c: char| c.is_ascii_lowercase() || c == '_');
                    let rest = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
                    if first && text.len() <= 32 && text.bytes().all(rest) {
                        Ok(text.to_owned())
                    } else {
                        Err(format!("`{}` is no login name", shorten(text)))
                    }
                })
            }),
            port: fields
                .get("port")
                .and_then(|given| Some(Located { value: self.port(&given)?, span: given.node.span.clone() })),
            forward_agent: fields.get("forward_agent").and_then(|given| self.truth(&given)),
            boot_timeout: fields.get("boot_timeout").and_then(|given| self.span(&given)),
        }
    }

    pub(super) fn health(&mut self, given: Given<'_>) -> Option<HealthCheck> {
        let fields = self.fields(given, &table::HEALTH)?;
        let mut span = |name: &str, default: u64| match fields.get(name) {
            Some(given) => self.span(&given),
            None => Some(Duration::from_secs(default)),
        };
        let (interval, timeout, start_timeout) =
            (span("interval", 1), span("timeout", 5), span("start_timeout", 60));
        let command = fields.get("command").and_then(|given| self.text(&given));
        let tcp = fields.get("tcp").and_then(|given| self.port(&given));
        let http = fields.get("http").and_then(|given| self.http(given));
        let test = command
            .map(|word| HealthTest::Command(word.text.into_owned()))
            .or(tcp.map(HealthTest::Tcp))
            .or(http)?;
        Some(HealthCheck { test, interval: interval?, timeout: timeout?, start_timeout: start_timeout? })
    }

    fn http(&mut self, given: Given<'_>) -> Option<HealthTest> {
        let fields = self.fields(given, &table::HTTP)?;
        let port = match fields.get("port") {
            Some(given) => self.port(&given),
            None => Some(80),
        };
        let path = match fields.get("path") {
            Some(given) => self.parsed(&given, |text| {
                if text.starts_with('/') && !text.contains(|c: char| c.is_whitespace() || c.is_control()) {
                    Ok(text.to_owned())
                } else {
                    Err(format!("`{}` is no path that begins with `/`", shorten(text)))
                }
            }),
            None => Some("/".to_owned()),
        };
        Some(HealthTest::Http { port: port?, path: path? })
    }
}
