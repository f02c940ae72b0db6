//! Chat templates and plain texts as token ids, against what transformers makes of them
//! (`tests/fixtures/make_chat.py`), and what of a wrapped text is its own.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use emoflow::lm::template::ChatTemplate;
use emoflow::lm::tokenizer::Tokenizer;
use emoflow::lm::{Chat, Checkpoint, Ending, Message, Role, Wrap};
use serde_json::Value;

/// White space as Python has it.
fn space(c: char) -> bool {
    c.is_whitespace() || ('\x1c'..='\x1f').contains(&c)
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chat")
}

fn read(path: &Path) -> Value {
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

fn list<'v>(value: &'v Value, name: &str) -> &'v Vec<Value> {
    value[name].as_array().unwrap_or_else(|| panic!("no list `{name}`"))
}

fn text<'v>(value: &'v Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("no string `{name}` in {value}"))
}

fn ids(value: &Value) -> Vec<i64> {
    list(value, "ids").iter().map(|id| id.as_i64().unwrap()).collect()
}

fn messages(of: &Value) -> Vec<Message> {
    let message = |m: &Value| {
        let role: Role = serde_json::from_value(m["role"].clone()).unwrap();
        Message::new(role, text(m, "content"))
    };
    list(of, "messages").iter().map(message).collect()
}

/// A tokenizer of the fixtures with a template's text, read from a folder as any checkpoint's is.
fn tokenizer(name: &str, template: Option<&str>) -> Tokenizer {
    let folder = tempfile::tempdir().unwrap();
    for file in ["tokenizer.json", "tokenizer_config.json"] {
        fs_err::copy(fixtures().join(name).join(file), folder.path().join(file)).unwrap();
    }
    for file in ["config.json", "model.safetensors"] {
        fs_err::write(folder.path().join(file), "").unwrap();
    }
    if let Some(template) = template {
        fs_err::write(folder.path().join("chat_template.jinja"), template).unwrap();
    }
    Tokenizer::load(&Checkpoint::open(folder.path()).unwrap()).unwrap()
}

fn source(template: &str) -> String {
    fs_err::read_to_string(fixtures().join(format!("{template}.jinja"))).unwrap()
}

/// What is different, each with what was rendered: the same text, or the same refusal.
fn difference(got: anyhow::Result<String>, want: &Value) -> Option<String> {
    let got = got.map_err(|error| format!("{error:#}"));
    let same = match (&got, want["text"].as_str(), want["raised"].as_str()) {
        (Ok(got), Some(want), _) => got == want,
        (Err(error), None, Some(raised)) => error.contains(raised),
        (Err(_), None, None) => !text(want, "error").is_empty(),
        _ => false,
    };
    (!same).then(|| format!("{want}\n  got {got:?}"))
}

/// Compares everything in a file of `make_chat.py`.
fn compare(reference: &Value) {
    let date = text(reference, "date").parse().unwrap();
    let mut wrong: Vec<String> = Vec::new();

    let (conversation, chat) = (messages(reference), Chat { date, thinking: false });
    let tokens =
        [("bos_token", "<|bos|>"), ("eos_token", "<|eos|>")].map(|(n, t)| (n.to_string(), t.to_string()));
    for feature in list(reference, "features") {
        let got = ChatTemplate::new(text(feature, "template"), tokens.to_vec())
            .and_then(|template| template.render(&conversation, true, chat));
        wrong.extend(difference(got, feature));
    }

    for of in list(reference, "tokenizers") {
        let name = text(of, "name");
        let tokenizer = tokenizer(name, None);
        for plain in list(of, "texts") {
            let got = tokenizer.encode(text(plain, "text")).unwrap().ids;
            if got != ids(plain) {
                wrong.push(format!("{name}: {plain}\n  got {got:?}"));
            }
        }
    }

    let mut opened: HashMap<(&str, &str), Tokenizer> = HashMap::new();
    for case in list(reference, "chats") {
        let (template, name) = (text(case, "template"), text(case, "tokenizer"));
        let tokenizer = opened.entry((template, name)).or_insert_with(|| {
            let given = reference["sources"][template].as_str().map(String::from);
            tokenizer(name, Some(&given.unwrap_or_else(|| source(template))))
        });
        let chat = Chat { date, thinking: case["thinking"].as_bool().unwrap() };
        let (messages, prompt) = (messages(case), case["prompt"].as_bool().unwrap());
        wrong.extend(difference(tokenizer.render_chat(&messages, prompt, chat), case));
        if prompt && case["text"].is_string() {
            let got = tokenizer.encode_chat(&messages, chat).unwrap();
            if got != ids(case) {
                wrong.push(format!("{case}\n  got {got:?}"));
            }
        }
        let ending = if prompt { Ending::Open } else { Ending::Closed };
        if let Ok(got) = tokenizer.encode_turns(&messages, ending, chat)
            && case["ids"].is_array()
            && got.ids != ids(case)
        {
            wrong.push(format!("turns: {case}\n  got {:?}", got.ids));
        }
        // A text in the user's turn is a conversation of one turn.
        if let ([Message { role: Role::User, content }], false) = (&messages[..], prompt)
            && let Ok(got) = tokenizer.encode_wrapped(content, Wrap::User, chat)
            && got.ids != ids(case)
        {
            wrong.push(format!("wrapped: {case}\n  got {got:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} differ from transformers:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn templates_and_texts_agree_with_transformers() {
    compare(&read(&fixtures().join("reference.json")));
}

/// `make_chat.py SEED FOLDER` draws conversations that no one has seen; `EMOFLOW_PARITY` is the folder.
#[test]
#[ignore = "needs a transformers that is at hand: make parity"]
fn drawn_conversations_agree_with_transformers() {
    let folder = std::env::var("EMOFLOW_PARITY").expect("EMOFLOW_PARITY: the folder that make_chat.py wrote");
    compare(&read(&Path::new(&folder).join("chat.json")));
}

/// The templates with the tokenizers that they go with, and each one's BOS.
const PAIRS: [(&str, &str, Option<i64>); 13] = [
    ("folded", "../llama-untied", Some(0)),
    ("dated", "../llama-gqa", Some(0)),
    ("last_user", "says-bos", Some(0)),
    ("last_user", "../llama-untied", Some(0)),
    ("default_system", "no-bos", None),
    ("thinking", "no-bos", None),
    ("refuses_system", "gemma", Some(0)),
    ("parts", "gemma", Some(0)),
    ("macros", "gemma", Some(0)),
    ("joined_marks", "strips", None),
    ("ends_with_eos", "one-end", Some(1)),
    ("modes", "../llama-gqa", None),
    ("documents", "one-end", None),
];

const STORIES: [&str; 8] = [
    "Mara laughs at the old map.",
    "  The rain sang.\n",
    "\n\nNo. \t x \n\n",
    "system user assistant",
    "\"it's\" 27 <b>kites</b> & café ✨",
    "\u{1c} a\u{a0}",
    "He said: [ASK] {{ x }} {% raw %}",
    "x",
];

#[test]
fn a_wrapped_text_has_its_own_tokens_and_one_bos() {
    for (template, name, bos) in PAIRS {
        let tokenizer = tokenizer(name, Some(&source(template)));
        for (story, wrap, thinking) in STORIES.iter().flat_map(|story| {
            let wraps = [Wrap::User, Wrap::Assistant].into_iter();
            wraps.flat_map(move |wrap| [false, true].map(|thinking| (*story, wrap, thinking)))
        }) {
            let place = format!("{template}, {name}, {wrap:?}, {story:?}");
            let chat = Chat { thinking, ..Chat::default() };
            let tokens =
                tokenizer.encode_wrapped(story, wrap, chat).unwrap_or_else(|e| panic!("{place}: {e:#}"));
            // Decoding keeps to the bytes; what a template trims, or joins to the text, is white space.
            let own = tokenizer.decode(&tokens.ids[tokens.text.clone()]).unwrap();
            assert_eq!(own.trim_matches(space), story.trim_matches(space), "{place}");
            let beside = [&tokens.ids[..tokens.text.start], &tokens.ids[tokens.text.end..]];
            for ids in beside.map(|ids| tokenizer.decode(ids).unwrap()) {
                assert!(story.len() < 20 || !ids.contains(&story.trim()[..20]), "{place}: {ids:?}");
            }
            if let Some(bos) = bos {
                let ends = usize::from(template == "ends_with_eos" && wrap == Wrap::Assistant);
                assert_eq!(tokens.ids.iter().filter(|&&id| id == bos).count(), 1 + ends, "{place}");
            } else {
                assert!(!tokens.ids.contains(&0), "{place}");
            }
        }
    }
}

#[test]
fn texts_that_cannot_be_told_from_their_template_are_refused() {
    let refused = |source: &str, text: &str, wrap| {
        let tokenizer = tokenizer("no-bos", Some(source));
        format!("{:#}", tokenizer.encode_wrapped(text, wrap, Chat::default()).unwrap_err())
    };
    for (template, wrap) in [("as_json", Wrap::User), ("as_json", Wrap::Assistant)] {
        assert!(refused(&source(template), "A key.", wrap).contains("changes the text"), "{template}");
    }
    let thought = refused(&source("thinking"), "<think>hm</think>A key.", Wrap::Assistant);
    assert!(thought.contains("changes the text"), "{thought}");
    assert!(refused("{{ messages[0].content | upper }}", "A key.", Wrap::User).contains("changes the text"));
    assert!(refused("{{ messages[0].role }}", "A key.", Wrap::User).contains("leaves the text out"));
    let raised = "{% if not messages[0].content %}{{ raise_exception('an empty turn') }}{% endif %}";
    assert!(refused(raised, "A key.", Wrap::Assistant).contains("an empty turn"));
}

#[test]
fn spaces_that_a_mark_takes_are_no_tokens_of_the_text() {
    let plain = "{{ messages[0].content }}<|end|>";
    let tokens = |text: &str| {
        tokenizer("strips", Some(plain)).encode_wrapped(text, Wrap::User, Chat::default()).unwrap()
    };
    let (with, without) = (tokens("A key. \n"), tokens("A key."));
    assert_eq!(with, without);
    assert_eq!(with.text, 0..with.ids.len() - 1);
    // Offsets that leave spaces out must not hide a token that is a space.
    let spaced = tokenizer("says-bos", Some("{{ messages[0].content }}<|end|>"));
    let tokens = spaced.encode_wrapped("  key ", Wrap::User, Chat::default()).unwrap();
    assert_eq!(spaced.decode(&tokens.ids[tokens.text.clone()]).unwrap(), "  key ");
    assert_eq!(tokens.text, 0..tokens.ids.len() - 1);
}

#[test]
fn instructions_go_where_the_template_takes_them() {
    let chat = Chat::default();
    let say = |role, text: &str| Message::new(role, text);
    let both = [say(Role::System, "Be brief."), say(Role::User, "Write about a key.")];
    let together = [say(Role::User, "Be brief.\n\nWrite about a key.")];
    let silent = "{% for m in messages if m.role == 'user' %}{{ m.content }}{% endfor %}<|start|>";
    let fails = "{{ raise_exception('never') }}";
    for (template, name, _) in PAIRS {
        let tokenizer = tokenizer(name, Some(&source(template)));
        let got = tokenizer.encode_request("Be brief.", "Write about a key.", chat).unwrap();
        let want = if template == "refuses_system" { &together[..] } else { &both[..] };
        assert_eq!(got, tokenizer.encode_chat(want, chat).unwrap(), "{template}");
        let alone = tokenizer.encode_request("", "Write about a key.", chat).unwrap();
        assert_eq!(alone, tokenizer.encode_chat(&both[1..], chat).unwrap(), "{template}");
    }
    let dropped = tokenizer("no-bos", Some(silent));
    let got = dropped.encode_request("Be brief.", "Write about a key.", chat).unwrap();
    assert_eq!(got, dropped.encode_chat(&together, chat).unwrap());
    let refused = tokenizer("no-bos", Some(fails)).encode_request("Be brief.", "Write.", chat).unwrap_err();
    assert!(format!("{refused:#}").contains("never"), "{refused:#}");
    let parts = "{% for m in messages %}{% for part in m.content if part.text %}{{ part.text }}{% endfor %}{% endfor %}";
    let refused = tokenizer("no-bos", Some(parts)).encode_request("", "Write.", chat).unwrap_err();
    assert!(format!("{refused:#}").contains("leaves the text out"), "{refused:#}");
}

#[test]
fn bos_is_said_once_whoever_says_it() {
    let count = |ids: &[i64]| ids.iter().filter(|&&id| id == 0).count();
    for (name, raw) in [("../llama-gqa", 1), ("gemma", 1), ("says-bos", 0), ("no-bos", 0)] {
        // Text that brings its own keeps one.
        let with = tokenizer(name, Some("{{ bos_token }}{{ messages[0].content }}"));
        assert_eq!(count(&with.encode("A key.").unwrap().ids), raw, "{name}");
        assert_eq!(count(&with.encode("<|bos|>A key.").unwrap().ids), 1, "{name}");
        let chat = with.encode_chat(&[Message::new(Role::User, "A key.")], Chat::default()).unwrap();
        assert_eq!(count(&chat), usize::from(name != "no-bos"), "{name}: the template's, not both");
    }
}

/// `make_turns.py`: ids and each turn's tokens, of several turns, opened turns and prefills.
#[test]
fn the_tokens_of_each_turn_are_those_that_transformers_gives_it() {
    let reference = read(&fixtures().join("turns.json"));
    let chats: Vec<Vec<Message>> = list(&reference, "chats")
        .iter()
        .map(|chat| messages(&serde_json::json!({ "messages": chat })))
        .collect();
    let mut opened: HashMap<(&str, &str), Tokenizer> = HashMap::new();
    let (mut wrong, mut told, mut refused) = (Vec::new(), 0, 0);
    for case in list(&reference, "cases") {
        let (template, name) = (text(case, "template"), text(case, "tokenizer"));
        let tokenizer =
            opened.entry((template, name)).or_insert_with(|| tokenizer(name, Some(&source(template))));
        let ending = match text(case, "ending") {
            "closed" => Ending::Closed,
            "open" => Ending::Open,
            prefill => Ending::Prefill(prefill),
        };
        let chat = &chats[case["chat"].as_u64().unwrap() as usize];
        match tokenizer.encode_turns(chat, ending, Chat::default()) {
            Err(_) if case["refused"] == true => refused += 1,
            Ok(got) if case["ids"].is_array() => {
                let span =
                    |span: &Value| span[0].as_u64().unwrap() as usize..span[1].as_u64().unwrap() as usize;
                let spans: Vec<_> = list(case, "spans").iter().map(span).collect();
                told += 1;
                if got.ids != ids(case) || got.spans != spans {
                    wrong.push(format!("{case}\n  got {got:?}"));
                }
            }
            got => wrong.push(format!("{case}\n  got {got:?}")),
        }
    }
    assert!(wrong.is_empty(), "{} differ from transformers:\n{}", wrong.len(), wrong.join("\n"));
    assert!(told > 150 && refused > 20, "{told} told, {refused} refused");
}

#[test]
fn turns_that_a_template_mends_are_refused() {
    let say = |role, text: &str| Message::new(role, text);
    let refused = |source: &str, turns: &[Message], ending| {
        let tokenizer = tokenizer("no-bos", Some(source));
        format!("{:#}", tokenizer.encode_turns(turns, ending, Chat::default()).unwrap_err())
    };
    let turns =
        [say(Role::User, "A key."), say(Role::Assistant, "<think>hm</think>Gone."), say(Role::User, "Why?")];
    assert!(refused(&source("thinking"), &turns, Ending::Open).contains("changes turn 2"));
    let users = "{% for m in messages if m.role == 'user' %}{{ m.content }}\n{% endfor %}";
    assert!(refused(users, &turns, Ending::Closed).contains("leaves turn 2 out"));
    let last = "{% for m in messages %}{{ m.content }}\n{% endfor %}{{ messages[-1].content }}";
    assert!(refused(last, &turns, Ending::Closed).contains("writes turn 3 twice"));
    let same = [say(Role::System, "Short."), turns[2].clone(), say(Role::Assistant, "So."), turns[2].clone()];
    // The instructions stand before every user turn that is like the last one.
    assert!(refused(&source("last_user"), &same, Ending::Closed).contains("changes"));
    assert!(
        refused(&source("refuses_system"), &[turns[2].clone(), turns[2].clone()], Ending::Open)
            .contains("alternate")
    );
    assert!(refused("{{ messages }}", &[], Ending::Open).contains("without turns"));
}

#[test]
fn white_space_that_a_template_keeps_is_a_turns_own() {
    for (template, name, _) in PAIRS {
        let tokenizer = tokenizer(name, Some(&source(template)));
        for story in STORIES {
            let turns = [Message::new(Role::User, story), Message::new(Role::Assistant, "Yes, so it is.")];
            let got = tokenizer.encode_turns(&turns, Ending::Closed, Chat::default()).unwrap();
            let one = tokenizer.encode_turns(&turns[..1], Ending::Closed, Chat::default()).unwrap();
            assert_eq!(got.spans[0], one.spans[0], "{template}, {name}, {story:?}");
            let wrapped = tokenizer.encode_wrapped(story, Wrap::User, Chat::default()).unwrap();
            assert_eq!(
                (&wrapped.ids, &wrapped.text),
                (&one.ids, &one.spans[0]),
                "{template}, {name}, {story:?}"
            );
            let answer = tokenizer.decode(&got.ids[got.spans[1].clone()]).unwrap();
            assert_eq!(answer.trim(), "Yes, so it is.", "{template}, {name}, {story:?}");
        }
    }
}
