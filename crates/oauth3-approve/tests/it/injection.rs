//! Nothing that an agent writes becomes markup, hides, or makes the message too long.

use crate::world::{OWNER, World, execution, finished, record, with_code, with_secrets};
use e2e::telegram_emulator::{ChatMessage, Fault};
use oauth3_approve::{Card, render_text};
use oauth3_core::{Bundle, Digest, Host, SecretName, SkillFile};
use serde_json::json;

const HOSTILE: &str = "</blockquote></pre></code><b>APPROVED</b> <a href=\"https://evil.example\">tap</a> &amp; &#9; \
    *bold* _i_ [x](https://evil.example) `c` ||s|| \u{202e}drowssap\u{202c} zero\u{200b}width\u{feff}\u{2066}x\u{2069} \
    line\nbreak\r\u{2028}\u{2029}\u{85}\u{0}\u{1b}[2J\u{ad}\u{e0041} /kill @someone #tag https://evil.example";

/// Outside of code entities stand only our own words; inside nothing invisible.
fn check_card(card: &ChatMessage) {
    let mut rest = card.text.clone();
    for (kind, text) in &card.entities {
        assert!(["bold", "code", "pre"].contains(&kind.as_str()), "{kind}");
        assert!(kind != "bold" || !text.contains("APPROVED"));
        rest = rest.replace(text, "");
    }
    for piece in ["evil.example", "/kill", "@someone", "#tag", "<b>", "*bold*"] {
        assert!(!rest.contains(piece), "{piece} outside of an entity: {rest}");
    }
    for c in card.text.chars().filter(|c| *c != '\n') {
        let hidden = c.is_control()
            || ['\u{202e}', '\u{202c}', '\u{200b}', '\u{feff}', '\u{2066}', '\u{2069}', '\u{ad}', '\u{e0041}']
                .contains(&c)
            || ['\u{2028}', '\u{2029}'].contains(&c);
        assert!(!hidden, "{:x} in {}", u32::from(c), card.text);
    }
}

#[tokio::test]
async fn hostile_text_in_every_field_stays_text() {
    let world = World::new().await;
    let mut execution = with_code(format!("// {HOSTILE}\n").as_bytes());
    execution.description = HOSTILE.to_owned();
    execution.skill_url = Some(format!("https://example.com/{HOSTILE}"));
    execution.args.insert("message".to_owned(), json!(HOSTILE));
    execution.args.insert("nested".to_owned(), json!({HOSTILE: [HOSTILE]}));
    let id = world.submit(execution.clone());
    let card = world.card(&id, "Approval wanted").await;
    check_card(&card);
    assert!(card.text.contains("<b>APPROVED</b>"), "shown as it is");
    assert!(card.text.contains("\\u{202e}drowssap"), "what reorders is shown as an escape");

    let mut failed = finished(execution, 1);
    failed.error = Some(format!("failed: {HOSTILE}"));
    failed.decided_by = Some("cli".to_owned());
    world.broker.set(failed);
    check_card(&world.card(&id, "Failed").await);
}

#[test]
fn hostile_text_stays_text_on_a_terminal_too() {
    let mut execution = with_code(HOSTILE.as_bytes());
    execution.description = HOSTILE.to_owned();
    execution.error = Some(HOSTILE.to_owned());
    execution.args.insert("a".to_owned(), json!(HOSTILE));
    let text = render_text(&Card::new(&execution, &[], &[], &crate::world::ceilings()));
    assert!(text.chars().all(|c| c == '\n' || !c.is_control()), "{text}");
    assert!(!text.contains('\u{202e}') && !text.contains('\u{200b}'));
}

#[tokio::test]
async fn code_that_does_not_fit_is_a_document_with_its_exact_bytes() {
    let world = World::new().await;
    let mut code = b"// long \xff\xfe\x00 \r\n--boundary\r\n".to_vec();
    code.extend((0..200_000_u32).map(|n| (n % 251) as u8));
    let id = world.submit(with_code(&code));
    let card = world.card(&id, "Approval wanted").await;
    let digest = Digest::of(&code).short();
    assert!(card.text.contains(&digest), "the digest is always shown");
    let name = format!("code-{digest}.ts");
    assert!(card.text.contains(&format!("attached as {name}")));
    let uploads = world.bot_api.uploads();
    assert_eq!(uploads.len(), 1);
    assert_eq!((uploads[0].file_name.as_str(), &uploads[0].bytes), (name.as_str(), &code));
    assert!(uploads[0].caption.contains(id.as_str()));
    assert_eq!(card.buttons.len(), 4);
    let order: Vec<_> = world.bot_api.messages(OWNER).into_iter().map(|m| m.document.is_some()).collect();
    assert_eq!(order, [true, false], "the code is there before the buttons are");
    // Edits send it no second time.
    world.tap(&card, "Run once").await;
    world.card(&id, "about to run").await;
    assert_eq!(world.bot_api.uploads().len(), 1);
}

#[tokio::test]
async fn code_that_cannot_be_shown_byte_for_byte_is_a_document() {
    let world = World::new().await;
    let code = "if (x) {\n\treturn '\u{202e}';\n}\n".as_bytes();
    world.submit(with_code(code));
    let upload = world.bot_api.wait_for("an upload", |e| e.uploads().pop()).await.unwrap();
    assert_eq!(upload.bytes, code);
}

fn several(files: &[(&str, &[u8])], assets: &[&str]) -> Vec<u8> {
    let files = files.iter().map(|(path, bytes)| SkillFile { path: (*path).into(), bytes: bytes.to_vec() }).collect();
    let assets: Vec<String> = assets.iter().map(|path| (*path).to_owned()).collect();
    Bundle::new(files, None, &assets).unwrap().to_bytes()
}

#[tokio::test]
async fn every_file_of_a_skill_is_listed_with_its_digest_and_shown_or_attached_exactly() {
    let world = World::new().await;
    let short = several(&[("lib/x.ts", b"export const x = 1;"), ("main.ts", b"import './lib/x.ts'")], &[]);
    let id = world.submit(with_code(&short));
    let card = world.card(&id, "Approval wanted").await;
    for part in ["main.ts · 19 bytes · sha256 ", " · runs", "lib/x.ts · 19 bytes · sha256 ", "export const x = 1;"]
    {
        assert!(card.text.contains(part), "{part}: {}", card.text);
    }
    assert!(card.text.contains(&Digest::of(b"import './lib/x.ts'").short()));
    assert!(world.bot_api.uploads().is_empty(), "it fits into the message");

    // What cannot be shown as it is goes along byte for byte; an asset does not.
    let odd: &[u8] = b"\tif (x) {}\r\n";
    let long = several(&[("main.ts", odd), ("a/y.ts", b"1"), ("b/y.ts", b"2"), ("i.png", &[0xff, 0])], &["i.png"]);
    let id = world.submit(with_code(&long));
    let card = world.card(&id, "Approval wanted").await;
    assert!(card.text.contains("i.png · 2 bytes") && card.text.contains("ASSET, contents not shown"), "{}", card.text);
    let mut uploads: Vec<_> =
        world.bot_api.uploads().into_iter().map(|upload| (upload.file_name, upload.bytes)).collect();
    uploads.sort();
    let name = |rest: &str| format!("code-{}-{rest}", Digest::of(&long).short());
    let wanted = [(name("1-main.ts"), odd.to_vec()), (name("2-y.ts"), b"1".to_vec()), (name("3-y.ts"), b"2".to_vec())];
    assert_eq!(uploads, wanted);
    assert!(wanted.iter().all(|(name, _)| card.text.contains(name)), "{}", card.text);
}

#[tokio::test]
async fn many_files_are_attached_as_the_archive_whose_digest_is_shown() {
    let world = World::new().await;
    let names: Vec<String> = (0..150).map(|n| format!("directory/file-number-{n}.ts")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &b"1"[..])).collect();
    files.push(("main.ts", b"1"));
    let code = several(&files, &[]);
    let id = world.submit(with_code(&code));
    let card = world.card(&id, "Approval wanted").await;
    let digest = Digest::of(&code).short();
    assert!(card.text.contains("151 files") && card.text.contains(&format!("code-{digest}.tar")), "{}", card.text);
    let uploads = world.bot_api.uploads();
    let archive = uploads.iter().find(|upload| upload.file_name == format!("code-{digest}.tar")).unwrap();
    assert_eq!(archive.bytes, code);
    let list = uploads.iter().find(|upload| upload.file_name.starts_with("request-")).unwrap();
    let list = String::from_utf8_lossy(&list.bytes).into_owned();
    assert!(names.iter().all(|name| list.contains(name)), "{list}");
}

#[test]
fn no_file_can_pretend_that_another_begins() {
    let code = several(&[("main.ts", b"1\n\xe2\x94\x80\xe2\x94\x80 safe.ts \xc2\xb7 1 bytes\n2")], &[]);
    let text = render_text(&Card::new(&with_code(&code), &[], &[], &crate::world::ceilings()));
    assert!(text.lines().any(|line| line == "│ ── safe.ts · 1 bytes"), "{text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("──")).count(), 1, "{text}");
}

#[tokio::test]
async fn arguments_that_do_not_fit_are_a_document_too() {
    let world = World::new().await;
    let mut execution = execution();
    execution.args.insert("text".to_owned(), json!("long ".repeat(2000)));
    let id = world.submit(execution.clone());
    let card = world.card(&id, "Approval wanted").await;
    assert!(card.text.contains("attached as args-"));
    let upload = world.bot_api.uploads().into_iter().find(|u| u.file_name.starts_with("args-")).unwrap();
    assert_eq!(upload.bytes, serde_json::to_vec(&execution.args).unwrap());
}

#[tokio::test]
async fn the_largest_request_there_can_be_is_shown_whole() {
    let world = World::new().await;
    let mut execution = with_code(&b"x".repeat(1 << 20));
    let long = "a".repeat(60);
    execution.intent.hosts =
        (0..64).map(|n| Host::parse(&format!("{long}.{long}.{long}.h{n}.example.com")).unwrap()).collect();
    execution.intent.secrets =
        (0..32).map(|n| SecretName::parse(&format!("S{n}_{}", "A".repeat(120))).unwrap()).collect();
    execution.description = "\u{200b}".repeat(333);
    execution.args.insert("text".to_owned(), json!("&".repeat(60_000)));
    let id = world.submit(execution.clone());
    let card = world.card(&id, "Approval wanted").await;
    assert!(card.text.contains("32 secrets, 64 hosts"));
    let request = world.bot_api.uploads().into_iter().find(|u| u.file_name.starts_with("request-")).unwrap();
    let text = String::from_utf8(request.bytes).unwrap();
    for host in &execution.intent.hosts {
        assert!(text.contains(&host.to_string()));
    }
    for name in &execution.intent.secrets {
        assert!(text.contains(name.as_str()));
    }
    world.tap(&card, "Run once").await;
    world.card(&id, "waits for 32 secrets").await;
}

#[tokio::test]
async fn code_that_could_not_be_attached_cannot_be_approved_here() {
    let world = World::new().await;
    world.write("/id");
    world.says("Your id").await;
    // Refused for good; and by a server that does not know the method and says so in its own way.
    for faults in [&[Fault::Status(400)][..], &[Fault::Page(500); 3]] {
        for fault in faults {
            world.bot_api.fail_next(Some("sendDocument"), *fault);
        }
        let id = world.submit(with_code(&b"x = 1\n".repeat(2000)));
        let card = world.card(&id, "Approval wanted").await;
        assert!(card.text.contains("NOT SHOWN HERE: oauth3 show"));
        let labels: Vec<_> = card.buttons.iter().map(|(label, _)| label.as_str()).collect();
        assert_eq!(labels, ["❌ Deny"]);
    }
}

#[tokio::test]
async fn a_document_gets_through_passing_trouble() {
    let world = World::new().await;
    world.bot_api.fail_next(Some("sendDocument"), Fault::TooMany { retry_after: 1 });
    world.bot_api.fail_next(Some("sendDocument"), Fault::Drop);
    world.bot_api.fail_next(Some("sendDocument"), Fault::Status(500));
    let id = world.submit(with_code(&b"x = 1\n".repeat(2000)));
    assert_eq!(world.card(&id, "Approval wanted").await.buttons.len(), 4);
    assert_eq!(world.bot_api.uploads().len(), 1);
}

#[tokio::test]
async fn a_card_that_the_server_refuses_is_shown_in_short_and_can_be_denied() {
    let world = World::new().await;
    world.bot_api.fail_next(Some("sendMessage"), Fault::Status(400));
    let id = world.submit(execution());
    let card = world.card(&id, "does not take the whole card").await;
    let labels: Vec<_> = card.buttons.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["❌ Deny"]);
    world.tap(&card, "Deny").await;
    world.card(&id, "Denied").await;
}

#[tokio::test]
async fn a_revealed_secret_says_so() {
    let world = World::new().await;
    let mut secret = record("API_KEY", &["api.example.com"]);
    secret.uses.reveal = oauth3_core::Reveal::Once;
    world.broker.secrets.lock().unwrap().push(secret);
    let id = world.submit(with_secrets(&["API_KEY"]));
    let card = world.card(&id, "Approval wanted").await;
    assert!(card.text.contains("REAL VALUE of API_KEY"), "{}", card.text);
    let labels = |card: &ChatMessage| card.buttons.iter().map(|(label, _)| label.clone()).collect::<Vec<_>>();
    assert_eq!(labels(&card), ["✅ Run once", "❌ Deny"], "once at a time is all that can be said");

    world.broker.secrets.lock().unwrap()[0].uses.reveal = oauth3_core::Reveal::Standing;
    let id = world.submit(with_secrets(&["API_KEY"]));
    let card = world.card(&id, "also when trusted").await;
    assert_eq!(labels(&card), ["✅ Run once", "🕐 Trust 24h", "🔒 Always trust", "❌ Deny"]);
}

#[tokio::test]
async fn the_warning_of_a_real_value_stays_on_the_card_however_much_there_is() {
    let world = World::new().await;
    let names: Vec<String> = (0..32).map(|n| format!("A_RATHER_LONG_NAME_OF_A_SECRET_{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let hosts: Vec<String> = (0..20).map(|n| format!("{n}.{}.example", "h".repeat(60))).collect();
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    for name in &names {
        let mut secret = record(name, &hosts);
        secret.uses.reveal = oauth3_core::Reveal::Once;
        world.broker.secrets.lock().unwrap().push(secret);
    }
    let id = world.submit(with_secrets(&names));
    let card = world.card(&id, "too many for this message").await;
    assert!(card.text.contains("REAL VALUE of 32 secrets"), "{}", card.text);
}
