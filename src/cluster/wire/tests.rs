use proptest::prelude::*;

use super::*;
use crate::limits::{
    CLUSTER_BATCH_BYTES, CLUSTER_BATCH_BYTES_MAX, CLUSTER_TEXT_BYTES, NODE_ID_BYTES, USER_ID_BYTES,
};
use crate::stamp::Micros;
use crate::trace::TraceId;

const NOTHING: Aside = Aside { probe: None, trace: None };

const SEND: Envelope<'static> =
    Envelope::Send { answer: Answer::Ack(7), user: "ann", text: r#"{"n":1}"#, aside: NOTHING };

/// A batch of `envelopes` from node `a`, incarnation 3, to incarnation 9.
fn batch(envelopes: &[Envelope<'_>], first: u64) -> Vec<u8> {
    let mut writer = BatchWriter::new("a", 3, Stream::To(9)).expect("a valid id");
    for envelope in envelopes {
        writer.append(envelope).expect("it fits");
    }
    writer.seal(first).to_vec()
}

/// Everything a batch says, or the first error.
fn read_all(batch: &[u8]) -> Result<(BatchHeader<'_>, Vec<Item<'_>>), WireError> {
    let (header, envelopes) = read(batch)?;
    let items = envelopes.collect::<Result<Vec<_>, _>>()?;
    Ok((header, items))
}

/// Where the first envelope of a batch from node `a` begins.
const FIRST_AT: usize = 1 + 4 + 1 + 1 + 8 + 1 + 8 + 8 + 4;

/// A batch whose one envelope is given as bytes.
fn raw_batch(kind: u8, said: u32, body: &[u8]) -> Vec<u8> {
    let mut raw = batch(&[], 1);
    raw.push(kind);
    raw.extend_from_slice(&said.to_le_bytes());
    raw.extend_from_slice(body);
    let length = raw.len() as u32;
    raw[1..5].copy_from_slice(&length.to_le_bytes());
    raw[FIRST_AT - 4] = u8::from(kind < UNNUMBERED);
    raw
}

/// A text with its length before it.
fn text(text: &str) -> Vec<u8> {
    let mut bytes = (text.len() as u32).to_le_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    bytes
}

/// An envelope that owns its texts.
#[derive(Clone, Debug)]
struct Owned {
    kind: u8,
    numbers: (u64, u64, u32),
    user: String,
    text: String,
    farewell: Option<String>,
    flag: bool,
    connections: Vec<(u64, Outcome)>,
}

impl Owned {
    fn lend(&self) -> Envelope<'_> {
        let (id, more, few) = self.numbers;
        let (user, text) = (self.user.as_str(), self.text.as_str());
        let stream = if self.flag { Stream::Broadcast } else { Stream::To(id) };
        let (from, to) = (id.min(more).max(1), id.max(more).max(1));
        match self.kind {
            0 => Envelope::Send { answer: self.answer(), user, text, aside: self.aside() },
            1 => Envelope::Broadcast { id, text, wants_result: self.flag, aside: self.aside() },
            2 => {
                let farewell = self.farewell.as_deref();
                Envelope::Kick { id, user, reason: text, farewell, aside: self.aside() }
            }
            3 => Envelope::Locate { id, user },
            4 => {
                Envelope::Ack { id, connections: self.connections.clone(), audience: more, unconfirmed: few }
            }
            5 => Envelope::Elsewhere { user, elsewhere: self.flag },
            6 => Envelope::Forget { user },
            7 => Envelope::Begin { number: from },
            8 => Envelope::Resend { stream, from, to },
            10 => Envelope::Probed { probe: self.probe(), held_micros: few, stayed_micros: id as u32 },
            9 => Envelope::Returned { sender: id, tries: few as u8, user, text },
            _ => Envelope::Lost { stream, from, to },
        }
    }
}

impl Owned {
    fn probe(&self) -> Probe {
        let (taken, sent, _) = self.numbers;
        Probe { taken: Micros::from_u32(taken as u32), sent: Micros::from_u32(sent as u32) }
    }

    fn aside(&self) -> Aside {
        let (id, more, few) = self.numbers;
        let trace = TraceId::from_bytes((u128::from(id) << 64 | u128::from(more)).to_be_bytes());
        Aside { probe: (few & 2 == 0).then(|| self.probe()), trace: trace.filter(|_| few & 4 == 0) }
    }

    fn answer(&self) -> Answer {
        match self.numbers {
            _ if self.flag => Answer::Nothing,
            (id, _, few) if few & 1 == 0 => Answer::Return { sender: id, tries: few as u8 & TRIES_MAX },
            (id, ..) => Answer::Ack(id),
        }
    }
}

fn any_outcome() -> impl Strategy<Value = Outcome> {
    use Outcome::{Closed, Delivered, Gone, Overloaded, SlowConsumer, TimedOut};
    prop::sample::select(vec![Delivered, SlowConsumer, Gone, Closed, Overloaded, TimedOut])
}

prop_compose! {
    fn any_envelope()(
        kind in 0..12u8,
        numbers in any::<(u64, u64, u32)>(),
        user in ".{0,60}",
        text in ".{0,200}",
        farewell in prop::option::of(".{0,20}"),
        flag in any::<bool>(),
        connections in prop::collection::vec((any::<u64>(), any_outcome()), 0..20),
    ) -> Owned {
        Owned { kind, numbers, user, text, farewell, flag, connections }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_written_is_read(
        source in "[a-zé]{1,60}",
        incarnation: u64,
        target in prop::option::of(any::<u64>()),
        first in 1..u64::MAX / 2,
        owned in prop::collection::vec(any_envelope(), 0..40),
    ) {
        let stream = target.map_or(Stream::Broadcast, Stream::To);
        let mut writer = BatchWriter::new(&source, incarnation, stream).expect("a valid id");
        // Twice, since a sealed writer has to be as good as new.
        for first in [first, first + 1] {
            for one in &owned {
                prop_assert_eq!(writer.append(&one.lend()), Ok(()));
            }
            let count = writer.count();
            let bytes = writer.bytes();
            let batch = writer.seal(first);
            prop_assert!(writer.is_empty());
            prop_assert_eq!(batch.len(), bytes);
            let (header, items) = read_all(&batch).expect("it was just written");
            prop_assert_eq!(header, BatchHeader { source: &source, incarnation, stream, first, count });
            let mut next = first;
            prop_assert_eq!(items.len(), owned.len());
            for (item, one) in items.iter().zip(&owned) {
                prop_assert_eq!(&item.envelope, &one.lend());
                let number = one.lend().is_numbered().then_some(next);
                prop_assert_eq!(item.number, number);
                next += u64::from(number.is_some());
            }
            prop_assert_eq!(next, first + u64::from(count));
        }
    }

    #[test]
    fn a_batch_cut_anywhere_is_an_error(owned in prop::collection::vec(any_envelope(), 0..6)) {
        let envelopes: Vec<_> = owned.iter().map(Owned::lend).collect();
        let whole = batch(&envelopes, 5);
        for end in 0..whole.len() {
            prop_assert!(read(&whole[..end]).is_err(), "cut at {end} of {}", whole.len());
            // A cut that the length agrees with is seen by what it cut through.
            if end >= FIRST_AT {
                let mut cut = whole[..end].to_vec();
                cut[1..5].copy_from_slice(&(end as u32).to_le_bytes());
                let numbered = envelopes.last().is_some_and(Envelope::is_numbered);
                prop_assert!(read(&cut).is_err() || !numbered, "cut at {end} of {}", whole.len());
            }
        }
        let mut longer = whole;
        longer.push(0);
        prop_assert_eq!(read(&longer).err(), Some(WireError::Length));
    }

    #[test]
    fn changed_bytes_never_panic(
        owned in prop::collection::vec(any_envelope(), 1..6),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let envelopes: Vec<_> = owned.iter().map(Owned::lend).collect();
        let mut changed = batch(&envelopes, 5);
        for (at, byte) in changes {
            let at = at.index(changed.len());
            changed[at] = byte;
        }
        if let Ok((header, items)) = read(&changed) {
            let numbers: Vec<_> = items.filter_map(Result::ok).filter_map(|item| item.number).collect();
            prop_assert!(numbers.len() <= header.count as usize);
            let end = header.first + u64::from(header.count);
            prop_assert!(numbers.iter().all(|number| (header.first..end).contains(number)));
        }
    }

    #[test]
    fn noise_is_an_error_or_harmless(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut versioned = noise.clone();
        versioned.splice(..5.min(noise.len()), [VERSION, noise.len() as u8, 0, 0, 0]);
        for bytes in [noise, versioned] {
            if let Ok((_, items)) = read(&bytes) {
                prop_assert!(items.count() <= bytes.len());
            }
        }
    }
}

#[test]
fn the_format_stays_what_it_is() {
    let expected = [
        &[1][..],                                    // version
        &[76, 0, 0, 0],                              // bytes
        &[1, b'a'],                                  // source
        &[3, 0, 0, 0, 0, 0, 0, 0],                   // incarnation
        &[1, 9, 0, 0, 0, 0, 0, 0, 0],                // stream
        &[5, 0, 0, 0, 0, 0, 0, 0],                   // first
        &[2, 0, 0, 0],                               // count
        &[1, 25, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0],   // send, id
        &[1, 3, 0, 0, 0, b'a', b'n', b'n'],          // wants a result, user
        &[5, 0, 0, 0, b'h', b'e', b'l', b'l', b'o'], // text
        &[7, 5, 0, 0, 0, 1, 0, 0, 0, b'b'],          // forget
    ]
    .concat();
    let hello = Envelope::Send { answer: Answer::Ack(7), user: "ann", text: "hello", aside: NOTHING };
    assert_eq!(batch(&[hello, Envelope::Forget { user: "b" }], 5), expected);
}

#[test]
fn what_is_to_be_answered_is_a_number_and_a_byte() {
    let check = |answer: Answer, number: u8, byte: u8| {
        let send =
            batch(&[Envelope::Send { answer, user: "u", text: "t", aside: NOTHING }], 1).split_off(FIRST_AT);
        assert_eq!((&send[5..13], send[13]), (&[number, 0, 0, 0, 0, 0, 0, 0][..], byte), "{answer:?}");
    };
    check(Answer::Nothing, 0, 0b0);
    check(Answer::Ack(9), 9, 0b1);
    check(Answer::Return { sender: 5, tries: 0 }, 5, 0b10);
    check(Answer::Return { sender: 5, tries: 3 }, 5, 0b1110);
    check(Answer::Return { sender: 5, tries: u8::MAX }, 5, 0xfe);
    let returned = batch(&[Envelope::Returned { sender: 5, tries: 2, user: "u", text: "t" }], 1);
    let expected =
        [&[9, 19, 0, 0, 0, 5, 0, 0, 0, 0, 0, 0, 0, 2][..], &[1, 0, 0, 0, b'u', 1, 0, 0, 0, b't']].concat();
    assert_eq!(returned[FIRST_AT..], expected);
}

#[test]
fn a_header_that_cannot_be_is_refused() {
    let check = |at: usize, bytes: &[u8], expected: WireError| {
        let mut changed = batch(&[SEND], 1);
        changed[at..at + bytes.len()].copy_from_slice(bytes);
        assert_eq!(read_all(&changed).err(), Some(expected), "{bytes:?} at {at}");
    };
    check(0, &[2], WireError::Version(2));
    check(1, &[1], WireError::Length);
    check(5, &[0], WireError::Source);
    check(5, &[254], WireError::Length);
    check(6, &[0xff], WireError::Source);
    check(15, &[2], WireError::Stream(2));
    check(FIRST_AT - 12, &[0], WireError::Numbers);
    check(FIRST_AT - 12, &[0xff; 8], WireError::Numbers);
    check(FIRST_AT - 4, &[0], WireError::Count);
    check(FIRST_AT - 4, &[2], WireError::Count);
    check(FIRST_AT - 4, &[0xff; 4], WireError::Count);
    assert_eq!(read(&[]).err(), Some(WireError::Length));
    let big = vec![VERSION; CLUSTER_BATCH_BYTES_MAX + 1];
    assert_eq!(read(&big).err(), Some(WireError::TooBig(big.len())));
}

#[test]
fn unknown_kinds_and_longer_bodies_are_passed_over() {
    for (kind, next) in [(0x33, Some(2)), (0xee, Some(1))] {
        let mut raw = raw_batch(kind, 3, b"new");
        let mut send = batch(&[SEND], 1).split_off(FIRST_AT);
        // A field that a later version appended.
        send[1] += 2;
        send.extend_from_slice(b"++");
        raw.extend_from_slice(&send);
        let length = raw.len() as u32;
        raw[1..5].copy_from_slice(&length.to_le_bytes());
        raw[FIRST_AT - 4] += 1;
        let (_, mut envelopes) = read(&raw).expect("whole");
        let items: Vec<_> = envelopes.by_ref().collect();
        assert_eq!(items, [Ok(Item { number: next, envelope: SEND })], "kind {kind:#x}");
        assert_eq!(envelopes.unknown(), 1);
    }
}

#[test]
fn a_malformed_body_is_an_error_in_its_place() {
    let id = [0; 8];
    let user = [&id[..], &[0], &text("u")].concat();
    let ack = |rows: u32| [&id[..], &id, &[0; 4], &rows.to_le_bytes()].concat();
    let range = |stream: u8, from: u64, to: u64| {
        [&[stream][..], &id, &from.to_le_bytes(), &to.to_le_bytes()].concat()
    };
    let cases = [
        (0x01, vec![]),
        (0x09, user.clone()),
        (0x09, [&user[..], &[2, 0, 0, 0, 0xc3, 0x28]].concat()),
        (0x01, [&user[..], &[4, 0, 0, 0, 0xff, 0xff, 0xff]].concat()),
        (0x01, [&user[..], &[2, 0, 0, 0, 0xc3, 0x28]].concat()),
        (0x01, [&user[..], &[0xff; 8]].concat()),
        (0x04, [&id[..], &text(&"u".repeat(USER_ID_BYTES + 1))].concat()),
        (0x05, ack(1)),
        (0x05, ack(u32::MAX)),
        (0x81, range(2, 1, 1)),
        (0x81, range(0, 0, 1)),
        (0x82, range(1, 3, 2)),
    ];
    for (kind, body) in cases {
        let mut raw = raw_batch(kind, body.len() as u32, &body);
        raw.extend_from_slice(&batch(&[SEND], 1)[FIRST_AT..]);
        let length = raw.len() as u32;
        raw[1..5].copy_from_slice(&length.to_le_bytes());
        raw[FIRST_AT - 4] += 1;
        let (_, mut envelopes) = read(&raw).expect("whole");
        assert_eq!(envelopes.next(), Some(Err(WireError::Body(kind))), "{body:?}");
        // The others are read, with the numbers they would have had.
        let number = Some(if kind < UNNUMBERED { 2 } else { 1 });
        assert_eq!(envelopes.next(), Some(Ok(Item { number, envelope: SEND })), "{body:?}");
        assert_eq!(envelopes.next(), None);
    }
}

#[test]
fn a_length_is_not_believed_before_its_bytes_are_there() {
    for said in [4, u32::MAX] {
        assert_eq!(read(&raw_batch(0x07, said, b"abc")).err(), Some(WireError::Length), "{said}");
    }
}

#[test]
fn what_a_later_version_calls_an_outcome_may_or_may_not_have_happened() {
    let body = [&[0; 20][..], &[1, 0, 0, 0], &[9, 0, 0, 0, 0, 0, 0, 0], &[200]].concat();
    let raw = raw_batch(0x05, body.len() as u32, &body);
    let (_, mut envelopes) = read(&raw).expect("whole");
    let ack = Envelope::Ack { id: 0, connections: vec![(9, Outcome::TimedOut)], audience: 0, unconfirmed: 0 };
    assert_eq!(envelopes.next(), Some(Ok(Item { number: Some(1), envelope: ack })));
}

#[test]
fn a_batch_is_full_before_it_exceeds_its_size() {
    let text = "x".repeat(1000);
    let send = Envelope::Send { answer: Answer::Nothing, user: "ann", text: &text, aside: NOTHING };
    let mut writer = BatchWriter::new("a", 1, Stream::Broadcast).expect("a valid id");
    let mut taken = 0;
    while writer.append(&send).is_ok() {
        taken += 1;
    }
    assert_eq!(writer.append(&send), Err(Refused::Full));
    assert!((60..65).contains(&taken), "{taken}");
    assert!(writer.bytes() <= CLUSTER_BATCH_BYTES);
    // What was refused has left no trace.
    let sealed = writer.seal(1);
    assert_eq!(read_all(&sealed).expect("whole").1.len(), taken);
    assert_eq!(writer.append(&send), Ok(()));
}

#[test]
fn a_large_envelope_is_a_batch_of_its_own() {
    let large = "x".repeat(CLUSTER_TEXT_BYTES);
    let kick = Envelope::Kick { id: 1, user: "ann", reason: &large, farewell: Some(&large), aside: NOTHING };
    let mut writer = BatchWriter::new("a", 1, Stream::To(1)).expect("a valid id");
    writer.append(&SEND).expect("it fits");
    assert_eq!(writer.append(&kick), Err(Refused::Full));
    writer.seal(1);
    assert_eq!(writer.append(&kick), Ok(()));
    assert_eq!(writer.append(&SEND), Err(Refused::Full));
    let sealed = writer.seal(2);
    assert!(sealed.len() <= CLUSTER_BATCH_BYTES_MAX);
    let (_, items) = read_all(&sealed).expect("whole");
    assert_eq!(items, [Item { number: Some(2), envelope: kick }]);
}

#[test]
fn what_no_batch_can_hold_is_refused() {
    let user = "u".repeat(USER_ID_BYTES + 1);
    let large = "x".repeat(CLUSTER_TEXT_BYTES + 1);
    let mut writer = BatchWriter::new("a", 1, Stream::To(1)).expect("a valid id");
    for envelope in [
        Envelope::Send { answer: Answer::Nothing, user: &user, text: "", aside: NOTHING },
        Envelope::Send { answer: Answer::Nothing, user: "", text: &large, aside: NOTHING },
        Envelope::Broadcast { id: 1, text: &large, wants_result: false, aside: NOTHING },
        Envelope::Forget { user: &user },
    ] {
        assert_eq!(writer.append(&envelope), Err(Refused::TooBig));
        assert!(writer.is_empty() && writer.count() == 0);
    }
}

#[test]
fn a_node_id_has_bounds() {
    let id = |bytes: usize| BatchWriter::new(&"n".repeat(bytes), 1, Stream::Broadcast);
    for (bytes, valid) in [(0, false), (1, true), (NODE_ID_BYTES, true), (NODE_ID_BYTES + 1, false)] {
        assert_eq!(id(bytes).is_ok(), valid, "{bytes}");
    }
    let longest = id(NODE_ID_BYTES).expect("a valid id").seal(1);
    assert_eq!(read(&longest).map(|(header, _)| header.source.len()), Ok(NODE_ID_BYTES));
}
