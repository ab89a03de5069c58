//! Names that are answered without asking anybody.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{DNSClass, RData, Record, RecordType};
use posada_provider_api::network::management::{GATEWAY, HOST_NAME};

/// Whatever ends so is ours, also where it does not exist: it never leaves the host.
const ZONE: &str = ".posada.internal";

/// Seconds; short, since another machine's address can change.
const TTL: u32 = 5;
/// The largest datagram we say we take (RFC 9715).
const PAYLOAD: u16 = 1232;

/// What is to be done with a question.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Answer it so.
    Answer(Vec<u8>),
    /// Ask the host's name servers.
    PassOn,
    /// It is no question.
    Ignore,
}

/// Names and addresses.
#[derive(Debug)]
pub(super) struct Names(BTreeMap<String, Ipv4Addr>);

impl Names {
    /// `names`, and the one of the host.
    pub(super) fn new(names: &BTreeMap<String, Ipv4Addr>) -> Self {
        let mut all: BTreeMap<_, _> =
            names.iter().map(|(name, address)| (canonical(name), *address)).collect();
        all.insert(HOST_NAME.to_owned(), GATEWAY);
        Self(all)
    }

    /// Decides about a question.
    pub(super) fn judge(&self, question: &[u8]) -> Verdict {
        let Ok(asked) = Message::from_vec(question) else {
            return reject(question, ResponseCode::FormErr).map_or(Verdict::Ignore, Verdict::Answer);
        };
        if asked.metadata.message_type != MessageType::Query {
            return Verdict::Ignore;
        }
        let [query] = &asked.queries[..] else { return Verdict::PassOn };
        if asked.metadata.op_code != OpCode::Query || query.query_class() != DNSClass::IN {
            return Verdict::PassOn;
        }
        let name = canonical(&query.name().to_ascii());
        let address = self.0.get(&name).copied();
        if address.is_none() && !name.ends_with(ZONE) && name != ZONE[1..] {
            return Verdict::PassOn;
        }
        let mut answer = Message::response(asked.metadata.id, OpCode::Query);
        answer.metadata = Metadata::response_from_request(&asked.metadata);
        answer.metadata.authoritative = true;
        answer.metadata.recursion_available = true;
        answer.add_query(query.clone());
        match (address, query.query_type()) {
            (Some(address), RecordType::A | RecordType::ANY) => {
                answer.add_answer(Record::from_rdata(query.name().clone(), TTL, RData::A(A(address))));
            }
            (Some(_), _) => {}
            (None, _) if name == ZONE[1..] => {}
            (None, _) => answer.metadata.response_code = ResponseCode::NXDomain,
        }
        if asked.edns.is_some() {
            let mut edns = Edns::new();
            edns.set_max_payload(PAYLOAD);
            answer.set_edns(edns);
        }
        answer.to_vec().map_or(Verdict::Ignore, Verdict::Answer)
    }
}

/// The answer to a question that nobody could be asked.
pub(super) fn failure(question: &[u8]) -> Option<Vec<u8>> {
    let asked = Message::from_vec(question).ok()?;
    let mut answer = Message::response(asked.metadata.id, asked.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&asked.metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = ResponseCode::ServFail;
    answer.add_queries(asked.queries);
    answer.to_vec().ok()
}

fn reject(question: &[u8], code: ResponseCode) -> Option<Vec<u8>> {
    // Something shorter than a header, or an answer, gets none (RFC 1035, section 4.1.1).
    let header = question.get(..12)?;
    if header[2] & 0x80 != 0 {
        return None;
    }
    Message::error_msg(u16::from_be_bytes([header[0], header[1]]), OpCode::Query, code).to_vec().ok()
}

fn canonical(name: &str) -> String {
    name.trim_end_matches('.').to_ascii_lowercase()
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;
    use hickory_proto::rr::Name;
    use proptest::prelude::*;

    use super::*;

    fn names() -> Names {
        Names::new(&BTreeMap::from([("DB.posada.internal.".to_owned(), Ipv4Addr::new(192, 168, 56, 11))]))
    }

    fn question(name: &str, kind: RecordType) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = 4711;
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message.to_vec().unwrap()
    }

    fn answer(name: &str, kind: RecordType) -> Message {
        match names().judge(&question(name, kind)) {
            Verdict::Answer(bytes) => Message::from_vec(&bytes).unwrap(),
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn the_host_and_given_names_are_known_in_any_case() {
        for (name, address) in [
            ("host.posada.internal.", GATEWAY),
            ("HOST.Posada.Internal.", GATEWAY),
            ("db.posada.internal.", Ipv4Addr::new(192, 168, 56, 11)),
        ] {
            let answer = answer(name, RecordType::A);
            assert_eq!(answer.metadata.id, 4711);
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
            assert_eq!(answer.answers[0].data, RData::A(A(address)), "{name}");
        }
    }

    #[test]
    fn a_known_name_has_no_other_records_and_unknown_ones_do_not_exist() {
        let v6 = answer("host.posada.internal.", RecordType::AAAA);
        assert_eq!((v6.metadata.response_code, v6.answers.len()), (ResponseCode::NoError, 0));
        assert_eq!(
            answer("gone.posada.internal.", RecordType::A).metadata.response_code,
            ResponseCode::NXDomain
        );
    }

    #[test]
    fn the_rest_of_the_world_is_passed_on() {
        for name in ["example.org.", "notposada.internal.", "posada.internal.example.org."] {
            assert_eq!(names().judge(&question(name, RecordType::A)), Verdict::PassOn, "{name}");
        }
    }

    #[test]
    fn a_failure_names_the_question() {
        let failed = Message::from_vec(&failure(&question("example.org.", RecordType::A)).unwrap()).unwrap();
        assert_eq!((failed.metadata.id, failed.metadata.response_code), (4711, ResponseCode::ServFail));
        assert_eq!(failed.queries[0].name().to_ascii(), "example.org.");
    }

    proptest! {
        #[test]
        fn garbage_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = (names().judge(&bytes), failure(&bytes));
        }
    }
}
