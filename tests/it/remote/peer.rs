//! A server that others wrote: llama.cpp's, with the demonstration model. `make test-server` starts it and runs these.

use std::collections::BTreeSet;

use super::{fails, program, succeeds, tables};
use crate::project::Project;

const HEAD: &str = r#"
layers = [2]
[models.demo]
path = "{demo}"
dtype = "f32"
[emotions]
words = ["happy", "sad", "angry", "calm", "afraid"]
"#;
const TOPICS: &str = r#"topics = ["a lost key", "the school play", "a rainy afternoon", "a train journey"]"#;

/// The keys of an `openai` source that say which server.
fn server() -> String {
    let url = std::env::var("EMOFLOW_PEER_URL").expect("EMOFLOW_PEER_URL: a server that has models/demo");
    format!("url = \"{url}\"\nmodel = \"demo\"")
}

/// With the likeliest token each time, a model writes one text, whoever runs it: through the server's chat template,
/// tokenizer, arithmetic and bounds as through ours.
#[test]
#[ignore = "needs a server: make test-server"]
fn the_likeliest_texts_are_those_that_the_model_writes_here() {
    let same = format!(
        "{TOPICS}\nper_topic = 1\nmax_new_tokens = 80\ntemperature = 0\nsystem = \"Answer plainly.\"\n\
         reject = {{ names_emotion = false, attempts = 1 }}"
    );
    let server = server();
    let project = Project::new(&format!(
        "{HEAD}[stories.near.generate]\nmodel = \"demo\"\n{same}\n[stories.far.openai]\n{server}\n{same}\n"
    ));
    let stories = ["--device", "cpu", "--only", "stories/*", "--progress", "none"];
    succeeds(&program(&project, "run", &stories).output().unwrap(), "ran 2, cached 0, failed 0");
    let [near, far] = ["stories/near", "stories/far"].map(|node| tables(&project, node, "stories").remove(0));
    for column in ["emotion", "topic"] {
        assert_eq!(near.opt_str(column).unwrap(), far.opt_str(column).unwrap());
    }
    let (near, far) = (near.str("text").unwrap(), far.str("text").unwrap());
    assert_eq!(near.len(), 20);
    let others: Vec<_> = near.iter().zip(far).filter(|(near, far)| near != far).collect();
    // Where two tokens are nearly as likely, rounding decides.
    assert!(others.len() <= 2, "{} of 20 differ: {others:#?}", others.len());
}

#[test]
#[ignore = "needs a server: make test-server"]
fn drawn_stories_differ_are_judged_and_read() {
    let project = Project::new(&format!(
        "{HEAD}[stories.far.openai]\n{}\n{TOPICS}\nper_topic = 3\nmax_new_tokens = 140\n\
         reject = {{ names_emotion = true, min_tokens = 30, attempts = 12 }}\n\
         [activations]\nfrom_token = 20\n[analysis.similarity.cosine]\n",
        server()
    ));
    let run = || program(&project, "run", &["--device", "cpu", "--progress", "none"]).output().unwrap();
    succeeds(&run(), "failed 0");
    let stories = tables(&project, "stories/far", "stories").remove(0);
    let (texts, emotions) = (stories.str("text").unwrap(), stories.opt_str("emotion").unwrap());
    assert_eq!(texts.len(), 5 * 4 * 3);
    assert_eq!(texts.iter().collect::<BTreeSet<_>>().len(), texts.len(), "a seed for each");
    for (text, emotion) in texts.iter().zip(emotions) {
        let emotion = emotion.clone().unwrap();
        assert!(!text.to_lowercase().contains(&emotion), "{emotion}: {text}");
        assert!(!text.contains("<|") && !text.contains("</s>"), "{text}");
        assert!(text.split_whitespace().count() >= 30, "{text}");
    }
    assert!(project.path("results/exp/vectors/demo/far.parquet").is_file());
    succeeds(&run(), "ran 0, ");
}

#[test]
#[ignore = "needs a server: make test-server"]
fn what_the_server_refuses_ends_the_node_with_its_words() {
    let long = "Read this back to me. ".repeat(200);
    let project = Project::new(&format!(
        "{HEAD}[stories.far.openai]\n{}\n{TOPICS}\nprompt = \"{long}{{emotion}} {{topic}}\"\n",
        server()
    ));
    let output = program(&project, "run", &["--device", "cpu", "--only", "stories/*"]).output().unwrap();
    fails(&output, 1, &["stories/far", "400", "maximum context length is 512 tokens"]);
}
