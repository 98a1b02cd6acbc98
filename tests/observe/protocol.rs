//! Who describes the messages and the close codes describes all of them.

use std::collections::BTreeSet;

use throng::ws::close::CloseReason;

use crate::file;

#[test]
fn the_protocol_is_described_whole() {
    let manual = file("docs/websocket.md");
    let described: BTreeSet<&str> = manual.split('`').skip(1).step_by(2).collect();
    let source = file("src/protocol.rs");
    let types = source.split("\"type\":\"").skip(1);
    let spoken: BTreeSet<&str> =
        types.filter_map(|rest| rest.split('"').next()).filter(|word| !word.is_empty()).collect();
    assert!(spoken.len() >= 9, "{spoken:?}");
    let missing: Vec<_> = spoken.difference(&described).collect();
    assert!(missing.is_empty(), "docs/websocket.md lacks {missing:?}");
    for reason in CloseReason::ALL {
        let Some(code) = reason.code().map(u16::from) else { continue };
        for page in ["docs/websocket.md", "docs/quick-reference.md", "README.md"] {
            assert!(file(page).contains(&code.to_string()), "{page} lacks {code}, {}", reason.label());
        }
    }
}
