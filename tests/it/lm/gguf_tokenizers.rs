//! Tokenizers out of GGUF metadata, against the ids that `tests/fixtures/make_gguf_tokenizers.py` has from transformers.

use std::path::Path;

use emoflow::lm::tokenizer::gguf::Vocabulary;
use emoflow::lm::{Chat, Checkpoint, Message, Role, Tokenizer};
use serde_json::Value;

fn reference() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf-tokenizers.json");
    serde_json::from_str(&fs_err::read_to_string(path).unwrap()).unwrap()
}

/// What the fixture says of a case, its lists put in.
fn vocabulary(reference: &Value, case: &Value) -> Vocabulary {
    let mut said = case["vocabulary"].clone();
    for list in ["tokens", "merges"] {
        said[list] = reference["lists"][said[list].as_str().unwrap()].clone();
    }
    serde_json::from_value(said).unwrap()
}

fn named(name: &str) -> Vocabulary {
    let reference = reference();
    let case = reference["cases"].as_array().unwrap().iter().find(|case| case["name"] == name).unwrap();
    vocabulary(&reference, case)
}

/// The tokenizer, read as the files of any checkpoint are.
fn tokenizer(vocabulary: &Vocabulary) -> Tokenizer {
    let rebuilt = vocabulary.rebuild().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| fs_err::write(folder.path().join(name), text).unwrap();
    write("tokenizer.json", rebuilt.tokenizer.to_string());
    write("tokenizer_config.json", rebuilt.config.to_string());
    write("config.json", String::new());
    write("model.safetensors", String::new());
    Tokenizer::load(&Checkpoint::open(folder.path()).unwrap()).unwrap()
}

#[test]
fn every_kind_agrees_with_transformers() {
    let reference = reference();
    let texts = reference["texts"].as_array().unwrap();
    let mut wrong = Vec::new();
    for case in reference["cases"].as_array().unwrap() {
        let tokenizer = tokenizer(&vocabulary(&reference, case));
        for (text, want) in texts.iter().zip(case["ids"].as_array().unwrap()) {
            let want: Vec<i64> = serde_json::from_value(want.clone()).unwrap();
            let got = tokenizer.encode(text.as_str().unwrap()).unwrap().ids;
            if got != want {
                wrong.push(format!("{}: {text}\n want {want:?}\n  got {got:?}", case["name"]));
            }
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_template_and_its_tokens_are_the_files() {
    for name in ["smollm", "llama 2", "gemma 4"] {
        let tokenizer = tokenizer(&named(name));
        let said = tokenizer.render_chat(&[Message::new(Role::User, "Hi")], false, Chat::default()).unwrap();
        assert_eq!(said, "<|bos|><|start|>user\nHi<|end|>\n", "{name}");
        let ids = tokenizer.encode_chat(&[Message::new(Role::User, "Hi")], Chat::default()).unwrap();
        assert_eq!(ids.iter().filter(|&&id| id == 0).count(), 1, "{name}: the template's BOS");
        assert_eq!(tokenizer.decode(&ids).unwrap().trim(), "user\nHi", "{name}");
    }
}

/// transformers leaves such a token out, as its text is not in the alphabet of bytes; llama.cpp finds it.
#[test]
fn an_added_token_may_hold_spaces() {
    let mut vocabulary = named("gpt-2");
    vocabulary.tokens.push("   ".into());
    vocabulary.token_types.push(4);
    let id = vocabulary.tokens.len() as i64 - 1;
    let (with, without) = (tokenizer(&vocabulary), tokenizer(&named("gpt-2")));
    let ids = |text: &str| without.encode(text).unwrap().ids;
    assert_eq!(with.encode("a   b").unwrap().ids, [ids("a"), vec![id], ids("b")].concat());
    assert_eq!(with.encode("a  b").unwrap().ids, ids("a  b"));
}

#[test]
fn what_the_metadata_does_not_determine_is_refused() {
    let refused = |name: &str, change: &dyn Fn(&mut Vocabulary), said: &[&str]| {
        let mut vocabulary = named(name);
        change(&mut vocabulary);
        let error = format!("{:#}", vocabulary.rebuild().expect_err("it was rebuilt"));
        for part in said {
            assert!(error.contains(part), "no `{part}` in: {error}");
        }
    };
    let asks = "set `tokenizer` in the model's table";
    refused("gpt-2", &|v| v.pre = Some("poro-chat".into()), &["`poro-chat`", asks]);
    refused("gpt-2", &|v| v.pre = Some("default".into()), &["`default`", asks]);
    refused("gpt-2", &|v| v.pre = None, &["tokenizer.ggml.pre", asks]);
    refused("gpt-2", &|v| v.model = "rwkv".into(), &["`rwkv`", asks]);
    refused("llama 2", &|v| v.architecture = "phi3".into(), &["Phi", asks]);
    refused("llama-bpe", &|v| v.architecture = "smollm3".into(), &["add_bos_token", asks]);
    refused("llama-bpe", &|v| v.bos = None, &["BOS"]);
    refused("gpt-2", &|v| v.merges.clear(), &["tokenizer.ggml.merges"]);
    refused("gpt-2", &|v| v.merges.push("a b c".into()), &["\"a b c\""]);
    refused("gpt-2", &|v| v.tokens[9] = v.tokens[8].clone(), &["twice"]);
    refused("gpt-2", &|v| v.eos = Some(9999), &["eos_token", "9999"]);
    refused("llama 2", &|v| v.scores.clear(), &["tokenizer.ggml.scores"]);
    refused("llama 2", &|v| v.scores.truncate(7), &["scores", "7 entries"]);
    refused("llama 2", &|v| v.scores[5] = f32::NAN, &["NaN"]);
}
