//! Stories from servers: an Ollama and an endpoint of OpenAI's protocol, well and badly behaved.

mod faults;
mod judge;
mod keys;
mod network;
mod peer;
pub mod server;
mod stops;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output};

use emoflow::store::table::Table;
use emoflow::store::{Lookup, Store};

use crate::project::Project;
use server::{MODEL, Server, text};

/// Twelve stories in three shards; `{source}` is the header and the server's keys.
const EXPERIMENT: &str = r#"
name = "exp"
layers = [1]
shard = 4
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "sad"]
{source}
topics = ["a lost key", "rain"]
per_topic = 3
reject = { attempts = 6 }
[activations]
from_token = 3
"#;

fn ollama(server: &Server, more: &str) -> String {
    source(&format!("[stories.far.ollama]\nurl = \"{}\"\nmodel = \"{MODEL}\"\n{more}", server.url))
}

fn openai(server: &Server, more: &str) -> String {
    source(&format!("[stories.far.openai]\nurl = \"{}/v1\"\nmodel = \"{MODEL}\"\n{more}", server.url))
}

fn source(source: &str) -> String {
    EXPERIMENT.replace("{source}", source)
}

/// `emoflow <command> exp.toml`: the real program, which waits a moment where it would wait a second.
fn program(project: &Project, command: &str, more: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_emoflow"));
    program.arg(command).arg(project.path("exp.toml")).args(more);
    program.env_remove("LD_LIBRARY_PATH").env("EMOFLOW_SERVER_WAIT_MS", "5");
    program
}

/// `emoflow run` of what the server writes.
fn write(project: &Project, more: &[&str]) -> Output {
    let mut program =
        program(project, "run", &["--device", "cpu", "--only", "stories/*", "--progress", "plain"]);
    program.args(more).output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.clone(), output.stderr.clone()].concat()).into_owned()
}

fn succeeds(output: &Output, wanted: &str) {
    let said = said(output);
    assert!(output.status.code() == Some(0) && said.contains(wanted), "no `{wanted}`: {said}");
}

fn fails(output: &Output, code: i32, wanted: &[&str]) {
    let said = said(output);
    assert_eq!(output.status.code(), Some(code), "{said}");
    for part in wanted {
        assert!(said.contains(part), "no `{part}`: {said}");
    }
}

/// Every Parquet file of the cache's stories, by name.
fn artifacts(project: &Project) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut open = vec![project.path("cache/stories")];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|e| e == "parquet") {
                let name = path.strip_prefix(project.path("cache")).unwrap().display().to_string();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// The source's tables called `name`, shard after shard.
fn tables(project: &Project, node: &str, name: &str) -> Vec<Table> {
    let run = std::fs::read_to_string(project.path("results/exp/run.json")).unwrap();
    let run: serde_json::Value = serde_json::from_str(&run).unwrap();
    let plan = run["plan"].as_array().unwrap();
    let keys = &plan.iter().find(|planned| planned[0] == node).unwrap()[1];
    let store = Store::open(project.path("cache")).unwrap();
    let stage = node.split('/').next().unwrap();
    let tables = keys.as_array().unwrap().iter().map(|key| {
        match store.lookup(stage, &key.as_str().unwrap().parse().unwrap()).unwrap() {
            Lookup::Hit(entry) => entry.read(name).unwrap(),
            Lookup::Miss(_) => panic!("{key} is not stored"),
        }
    });
    tables.collect()
}

/// Files below `folder` that have `secret` in them.
fn holding(folder: &Path, secret: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, secret));
        } else if std::fs::read(&path).unwrap().windows(secret.len()).any(|w| w == secret.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn both_protocols_bring_stories_some_requests_at_a_time() {
    // What stands for the model is in the seeds, and must not be the address, which is another each time.
    let known = "identity = \"teller of May\"";
    for (file, path, more) in
        [(ollama as fn(&Server, &str) -> String, "ollama", ""), (openai, "openai", known)]
    {
        let server = Server::start();
        server.state().delay = std::time::Duration::from_millis(30);
        let project =
            Project::new(&file(&server, &format!("parallel = 3\nsystem = \"Be brief.\"\ntop_k = 7\n{more}")));
        let output = write(&project, &[]);
        succeeds(&output, "ran 1, cached 0, failed 0");
        assert!(said(&output).contains("12 stories, "), "{}", said(&output));
        assert!(said(&output).contains(" tokens/s, 0 retries"), "{}", said(&output));
        let asked = server.asked();
        assert_eq!(server.most(), 3, "{path}");
        let [mut rows, mut rejected] = [0, 0];
        for (stories, thrown) in
            tables(&project, "stories/far", "stories").iter().zip(tables(&project, "stories/far", "rejected"))
        {
            let (texts, prompts) = (stories.str("text").unwrap(), stories.opt_str("prompt").unwrap());
            for (i, seed) in stories.opt_i64("seed").unwrap().iter().enumerate() {
                let (prompt, seed) = (prompts[i].clone().unwrap(), u64::try_from(seed.unwrap()).unwrap());
                assert!(seed < 1 << 31);
                assert_eq!(texts[i], text(&prompt, seed));
                let requests = asked.iter().filter(|a| a.prompt == prompt && a.seed == seed);
                assert_eq!(requests.count(), 1, "one request for a story");
            }
            rows += stories.rows();
            rejected += thrown.rows();
            assert!(thrown.str("reason").unwrap().iter().all(|reason| reason == "names_emotion"));
        }
        assert_eq!((rows, rows + rejected), (12, asked.len()), "{path}");
        assert!(rejected > 0, "no text was written again");
        let body = &asked[0].body;
        assert_eq!(body["messages"][0], serde_json::json!({"role": "system", "content": "Be brief."}));
        let options = if path == "ollama" { &body["options"] } else { body };
        // Where the file sets none, an endpoint of OpenAI's protocol is sent none.
        let top_p = if path == "ollama" { 0.95.into() } else { serde_json::Value::Null };
        assert_eq!((&options["top_k"], &options["top_p"]), (&7.into(), &top_p));
        succeeds(&write(&project, &[]), "ran 0, cached 1, failed 0");
        assert_eq!(server.asked(), []);
    }
}

#[test]
fn what_a_server_writes_is_read_like_any_story() {
    let server = Server::start();
    let neutral = format!(
        "[vectors]\ndenoise = {{ components = 1 }}\n[neutral.openai]\nurl = \"{}/v1\"\nmodel = \"{MODEL}\"\n\
         topics = [\"a road\", \"a hill\", \"a lake\"]\n",
        server.url
    );
    let project = Project::new(&(ollama(&server, "") + &neutral));
    let output = program(&project, "run", &["--device", "cpu", "--progress", "plain"]).output().unwrap();
    succeeds(&output, "failed 0");
    assert!(project.path("results/exp/vectors/demo/far.parquet").is_file());
    let neutral = tables(&project, "stories/neutral", "stories");
    assert_eq!(neutral.iter().map(Table::rows).sum::<usize>(), 3);
    assert_eq!(neutral[0].opt_str("emotion").unwrap(), [None, None, None]);
    succeeds(&program(&project, "plan", &["--device", "cpu"]).output().unwrap(), "stories/far");
    succeeds(
        &program(&project, "explain", &["stories/far", "--device", "cpu"]).output().unwrap(),
        "stories/far",
    );
}

/// Dialogues of both kinds, written for pairs of emotions and read: from what a writer is asked to the numbers.
#[test]
fn dialogues_that_a_server_writes_are_read_and_compared() {
    let server = Server::start();
    let source = |name: &str, kind: &str| {
        let url = &server.url;
        format!(
            "[dialogues.{name}.openai]\nkind = \"{kind}\"\nurl = \"{url}/v1\"\nmodel = \"{MODEL}\"\n\
             topics = [\"a lost key\", \"rain\", \"a letter\", \"a late train\", \"a garden\"]\nreject = {{ attempts = 6 }}\n"
        )
    };
    let project = Project::new(&format!(
        "name = \"exp\"\nlayers = [1]\n[models.demo]\npath = \"{{demo}}\"\n[emotions]\n\
         words = [\"happy\", \"sad\", \"angry\", \"calm\"]\n[stories.passages.template]\n\
         passages = [\"She was {{emotion}} all day.\", \"He felt {{emotion}}.\"]\n[activations]\nfrom_token = 0\n{}{}\
         [analysis.whose.speakers]\ndialogues = \"talk\"\npermutations = 9\nresamples = 9\n\
         [analysis.hidden.deflection]\ndialogues = \"masks\"\npermutations = 9\nresamples = 9\n",
        source("talk", "speakers"),
        source("masks", "deflection"),
    ));
    let output = program(&project, "run", &["--device", "cpu", "--progress", "plain"]).output().unwrap();
    succeeds(&output, "failed 0");
    let asked = server.asked();
    for (name, pairing) in [("talk", "speaks as somebody who feels"), ("masks", "shows only that they feel")]
    {
        let stories = tables(&project, &format!("stories/{name}"), "stories");
        assert_eq!(stories.iter().map(Table::rows).sum::<usize>(), 20, "{name}");
        // Each was asked for with both of its emotions, and names neither.
        for table in &stories {
            let (emotion, other) = (table.opt_str("emotion").unwrap(), table.opt_str("other").unwrap());
            for row in 0..table.rows() {
                let [first, second] = [&emotion[row], &other[row]].map(|word| word.as_deref().unwrap());
                let prompt = table.opt_str("prompt").unwrap()[row].clone().unwrap();
                assert!(
                    asked.iter().any(|asked| asked.prompt == prompt) && prompt.contains(pairing),
                    "{prompt}"
                );
                assert!(prompt.contains(first) && prompt.contains(second), "{first} and {second}: {prompt}");
                let text = &table.str("text").unwrap()[row];
                assert!(!text.contains(first) && !text.contains(second), "{text}");
                assert!(name == "talk" || first != second);
            }
        }
        let texts = tables(&project, &format!("texts/{name}"), "texts");
        let roles: Vec<&str> =
            texts.iter().flat_map(|t| t.str("role").unwrap()).map(String::as_str).collect();
        let each = if name == "talk" { &["user", "assistant"][..] } else { &["system", "user", "assistant"] };
        assert!(roles.chunks(each.len()).all(|turns| turns == each), "{name}: {roles:?}");
    }
    let count = |table: &str| {
        std::fs::read_to_string(project.path(&format!("results/exp/tables/{table}.csv"))).unwrap()
    };
    // 20 dialogues on five topics, none left out.
    assert!(count("whose.speakers_tests").lines().skip(1).all(|line| line.contains(",20,5,")));
    assert!(count("hidden.deflection_tests").lines().skip(1).all(|line| line.contains(",20,5,")));
}
