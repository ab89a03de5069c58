use proptest::prelude::*;

use super::*;

/// What a guest may send: any bytes, but often such as come far.
fn request() -> impl Strategy<Value = (u32, u64, Vec<u8>)> {
    let word = prop_oneof![
        4 => 0_u64..8,
        1 => Just(u64::MAX),
        1 => Just(1_u64 << 32),
        1 => any::<u64>(),
    ];
    let words = prop::collection::vec(word, 0..8)
        .prop_map(|words| words.into_iter().flat_map(u64::to_le_bytes).collect::<Vec<u8>>());
    let tail = prop_oneof![
        Just(b"a\0b\0".to_vec()),
        Just(b"..\0../outside\0".to_vec()),
        Just(b"../outside\0a\0".to_vec()),
        prop::collection::vec(any::<u8>(), 0..300),
    ];
    (0_u32..60, 0_u64..8, (words, tail)).prop_map(|(opcode, node, (mut args, tail))| {
        args.extend(tail);
        (opcode, node, args)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn nothing_a_guest_sends_leads_out_or_ends_the_server(
        requests in prop::collection::vec(request(), 1..60),
        room in prop_oneof![Just(0_usize), Just(16), Just(40), Just(5000)],
    ) {
        let mut guest = Guest::new();
        guest.mkdir(ROOT, "a").unwrap();
        fs_err::write(guest.host("b"), "inside").unwrap();
        guest.lookup(ROOT, "b").unwrap();
        guest.create(ROOT, "c", libc::O_RDWR).unwrap();
        for (opcode, node, args) in requests {
            let (answer, reply) = guest.send(opcode, node, &args.into(), room);
            if let Answer::Replied(len) = answer {
                prop_assert!((16..=room).contains(&len));
            }
            prop_assert!(!reply.windows(6).any(|bytes| bytes == b"secret"));
        }
        let outside = fs_err::read(guest.temporary.path().join("outside")).unwrap();
        prop_assert_eq!(outside, b"secret");
        prop_assert_eq!(fs_err::read_dir(guest.temporary.path()).unwrap().count(), 2);
    }

    #[test]
    fn bytes_that_are_no_request_are_none(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut guest = Guest::new();
        guest.raw(&bytes, 100);
    }
}

#[test]
fn lengths_that_are_not_those_of_the_message_are_refused() {
    let mut guest = Guest::new();
    for len in [0, 39, 41, u32::MAX] {
        let mut request = Body::default();
        request.u32(len).u32(op::STATFS).u64(7).u64(ROOT).pad(40);
        let (answer, reply) = guest.raw(&request.0, 200);
        assert_eq!(answer, Answer::Replied(16));
        assert_eq!(Args::new(&reply[4..]).u32().unwrap().cast_signed(), -libc::EINVAL, "{len}");
    }
    assert_eq!(guest.raw(&[0; 39], 200).0, Answer::Silent);
    // Room for less than a header gets no reply, for less than the body an error.
    assert_eq!(guest.send(op::GETATTR, ROOT, Body::default().pad(16), 15).0, Answer::Silent);
    let (answer, reply) = guest.send(op::GETATTR, ROOT, Body::default().pad(16), 100);
    assert_eq!(answer, Answer::Replied(16));
    assert_eq!(Args::new(&reply[4..]).u32().unwrap().cast_signed(), -libc::ERANGE);
    assert_eq!(guest.call(op::WRITE, ROOT, &Body::default()), Err(libc::EINVAL));
    assert_eq!(guest.call(op::GETATTR, ROOT, Body::default().pad(300_000)), Err(libc::E2BIG));
    assert_eq!(guest.call(9999, ROOT, &Body::default()), Err(libc::ENOSYS));
}
