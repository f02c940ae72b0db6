//! `emoflow serve` over real sockets: steered texts and log-probabilities are those of the stages, what is copied writes the same
//! texts, nobody else may ask, and what is wrong is said.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use emoflow::lm::{Checkpoint, Dtype, LanguageModel, Sampling};
use serde_json::{Value, json};
use tch::Device;

use crate::project::Project;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [1, 2]

[models.demo]
path = "{demo}"

[emotions]
words = ["happy", "sad", "angry", "calm"]

[stories.passages.template]
set = "passages-10"

[activations]
from_token = 3

[analysis.causes.steering]
prompts = ["He feels"]
strength = [-0.1, 0.2, 3.0]
unit = "resid_norm"
layers = [2]
random = 1
permuted = 0
shuffled = 0
topics = 0
resamples = 0
write = 20
"#;

/// The server of a project, until the test ends.
struct Serving {
    child: Child,
    port: u16,
    token: String,
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What was answered.
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// The events of a stream.
    fn events(&self) -> Vec<String> {
        assert!(self.head.contains("text/event-stream"), "{}\n{}", self.head, self.body);
        let events = self.body.split("\n\n").filter(|event| !event.is_empty());
        events.map(|event| event.strip_prefix("data: ").unwrap().to_string()).collect()
    }

    #[track_caller]
    fn refused(&self, status: u16, said: &str) {
        let message = self.json()["error"]["message"].as_str().unwrap().to_string();
        assert_eq!(self.status, status, "{message}");
        assert!(message.contains(said), "{message}");
    }
}

impl Serving {
    fn start(project: &Project) -> Serving {
        let mut command = Command::new(env!("CARGO_BIN_EXE_emoflow"));
        command.args(["serve", project.path("exp.toml").to_str().unwrap(), "--port", "0", "--device", "cpu"]);
        command
            .env_remove("LD_LIBRARY_PATH")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.trim().strip_prefix("http://127.0.0.1:").unwrap_or_else(|| panic!("{line:?}"));
        let (port, token) = address.split_once('/').unwrap();
        Serving { port: port.parse().unwrap(), token: token.trim_matches('/').to_string(), child }
    }

    /// Sends `request` as it is.
    fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(SocketAddr::from(([127, 0, 0, 1], self.port))).unwrap();
        stream.write_all(request).unwrap();
        let mut bytes = Vec::new();
        // What was refused before all of it was read is reset.
        let _ = stream.read_to_end(&mut bytes);
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_string(), body: body.to_string() }
    }

    fn with(&self, method: &str, path: &str, headers: &str, body: &str) -> Answer {
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.1\r\nContent-Length: {length}\r\n{headers}\r\n");
        self.raw(format!("{head}{body}").as_bytes())
    }

    fn host(&self) -> String {
        format!("Host: 127.0.0.1:{}\r\n", self.port)
    }

    fn get(&self, path: &str) -> Answer {
        self.with("GET", &format!("/{}/{path}", self.token), &self.host(), "")
    }

    fn post(&self, path: &str, body: Value) -> Answer {
        let headers = format!("{}Content-Type: application/json\r\n", self.host());
        self.with("POST", &format!("/{}/{path}", self.token), &headers, &body.to_string())
    }
}

/// Columns of a table of the results, by name, of the rows that `wanted` takes.
fn rows(project: &Project, table: &str) -> Vec<std::collections::HashMap<String, String>> {
    let mut reader = csv::Reader::from_path(project.path(table)).unwrap();
    reader.deserialize().collect::<Result<_, _>>().unwrap()
}

fn model() -> LanguageModel {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    LanguageModel::load(&Checkpoint::open(&folder).unwrap(), Dtype::F32, Device::Cpu).unwrap()
}

fn text(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.body);
    answer.json()["choices"][0]["text"].as_str().unwrap().to_string()
}

#[test]
fn what_is_steered_is_what_the_stages_steer() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&[]).code, 0);
    let serving = Serving::start(&project);
    let steering =
        |emotion: &str, strength: f64| json!([{ "emotion": emotion, "strength": strength, "layers": [2] }]);
    // What `steering` has written.
    let written = rows(&project, "results/exp/tables/causes.steering_text.csv");
    let mut compared = 0;
    for row in &written {
        if row["steered"].starts_with("random") {
            continue;
        }
        let mut body = json!({ "prompt": "He feels", "max_tokens": 20, "temperature": 0, "seed": 1 });
        if row["steered"] != "unsteered" {
            body["steering"] = steering(&row["steered"], row["strength"].parse().unwrap());
        }
        assert_eq!(text(&serving.post("v1/completions", body)), row["text"], "{row:?}");
        compared += 1;
    }
    assert_eq!(compared, 1 + 3 * 4);
    // The log-probabilities of words that it has measured: the sum over the word's tokens.
    let measured = rows(&project, "results/exp/tables/causes.csv");
    for row in measured.iter().filter(|row| row["strength"] == "0.2" && row["steered"] == "sad") {
        let sum = |steering: Value| {
            let body = json!({ "prompt": format!("He feels {}", row["measured"]), "max_tokens": 0, "echo": true, "logprobs": 2, "steering": steering });
            let answer = serving.post("v1/completions", body).json();
            let told = &answer["choices"][0]["logprobs"];
            let prompt = model().encode("He feels").unwrap().ids.len();
            assert_eq!(told["token_logprobs"][0], Value::Null);
            let own = &told["token_logprobs"].as_array().unwrap()[prompt..];
            assert_eq!(told["tokens"].as_array().unwrap().len(), prompt + own.len());
            own.iter().map(|p| p.as_f64().unwrap()).sum::<f64>()
        };
        let number = |name: &str| row[name].parse::<f64>().unwrap();
        let (plain, steered) = (sum(json!([])), sum(steering("sad", 0.2)));
        assert!((plain - number("baseline_logprob")).abs() < 1e-4, "{row:?}: {plain}");
        assert!((steered - number("steered_logprob")).abs() < 1e-4, "{row:?}: {steered}");
    }
    // Unsteered, with a seed: what `generate` writes; at once and in pieces; and the same again.
    let (model, prompt) = (model(), "She said that");
    let sampling = Sampling { max_new_tokens: 40, temperature: 1.0, top_k: 0, top_p: 0.9 };
    let ids = model.encode(prompt).unwrap().ids;
    let own = model.generate(&[ids.clone(), ids], &sampling, &[7, 8], &mut [], &mut |_| {}).unwrap();
    let own: Vec<String> = own.iter().map(|ids| model.decode(ids).unwrap()).collect();
    let mut body =
        json!({ "prompt": prompt, "max_tokens": 40, "temperature": 1, "top_p": 0.9, "seed": 7, "n": 2 });
    let whole = serving.post("v1/completions", body.clone()).json();
    assert_eq!([&whole["choices"][0]["text"], &whole["choices"][1]["text"]], [&own[0], &own[1]]);
    assert_eq!(whole["emoflow"]["seed"], 7);
    body["stream"] = json!(true);
    let events = serving.post("v1/completions", body.clone()).events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let mut pieces = [String::new(), String::new()];
    for event in &events[..events.len() - 1] {
        let choice = serde_json::from_str::<Value>(event).unwrap()["choices"][0].clone();
        pieces[choice["index"].as_u64().unwrap() as usize].push_str(choice["text"].as_str().unwrap());
    }
    assert_eq!(pieces.to_vec(), own);
    // A stop is left out, in whatever pieces it comes.
    let stop: String = own[0].chars().skip(25).take(6).collect();
    body["stop"] = json!([stop]);
    body["n"] = json!(1);
    body["stream"] = json!(false);
    let stopped = serving.post("v1/completions", body).json();
    let before = &own[0][..own[0].find(&stop).unwrap()];
    assert_eq!(
        (stopped["choices"][0]["text"].as_str(), stopped["choices"][0]["finish_reason"].as_str()),
        (Some(before), Some("stop"))
    );
    // What was measured is what the playground shows.
    let described = serving.get("api/experiment").json();
    let bands = described["models"][0]["bands"].as_array().unwrap();
    let sad = bands.iter().find(|band| band["emotion"] == "sad").unwrap();
    assert_eq!((&sad["layers"], &sad["positions"]), (&json!([2]), &json!("all")));
    assert_eq!(sad["points"].as_array().unwrap().len(), 3);
    let coherence = rows(&project, "results/exp/tables/causes.steering_coherence.csv");
    let largest = coherence.iter().find(|row| row["steered"] == "sad" && row["strength"] == "3.0").unwrap();
    let change = sad["points"][2]["neutral"].as_f64().unwrap();
    assert_eq!(change, largest["delta"].parse::<f64>().unwrap());
    assert_eq!(
        sad["points"][2]["coherent"],
        json!(change >= -0.5 && sad["points"][2]["surprise"].as_f64().unwrap() <= 1.0)
    );
}

/// The columns' texts, and their tokens' readings.
fn played(answer: &Answer) -> (Vec<String>, Vec<std::collections::BTreeMap<u64, f64>>) {
    let mut texts = vec![String::new(); 3];
    let mut readings = vec![std::collections::BTreeMap::new(); 3];
    let mut prompts = Vec::new();
    let mut tokens = [0; 3];
    for event in answer.events() {
        let event: Value = serde_json::from_str(&event).unwrap();
        if let Some(column) = event["column"].as_u64() {
            texts[column as usize].push_str(event["more"].as_str().unwrap());
            tokens[column as usize] += usize::from(!event["token"].is_null());
        } else if event["columns"].is_array() {
            prompts =
                event["prompts"].as_array().unwrap().iter().map(|p| p.as_array().unwrap().len()).collect();
        }
        for read in event["read"].as_array().into_iter().flatten() {
            let at = |i: usize| read[i].as_u64().unwrap();
            readings[at(0) as usize].insert(at(1), read[2].as_f64().unwrap());
        }
        assert!(event.get("error").is_none(), "{event}");
    }
    for column in 0..3 {
        assert_eq!(readings[column].len(), prompts[column] + tokens[column], "every token is read");
    }
    (texts, readings)
}

#[test]
fn what_is_tried_and_copied_is_written_again() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&["--only", "stage:vectors"]).code, 0);
    let serving = Serving::start(&project);
    let again = |copied: &Value| {
        let file = project.path(copied["file"].as_str().unwrap());
        std::fs::write(&file, copied["toml"].as_str().unwrap()).unwrap();
        let mut out = Vec::new();
        let path = file.to_str().unwrap();
        assert_eq!(emoflow::run(["emoflow", "check", path], &mut out), 0, "{copied:#}");
        assert_eq!(emoflow::run(["emoflow", "run", path, "--device", "cpu", "--quiet"], &mut out), 0);
    };
    // A conversation of two turns, drawn with a seed.
    let settings = json!({
        "system": "Be \"brief\".\n", "emotion": "angry", "strength": 0.3, "layers": [1, 2], "positions": "generated",
        "temperature": 0.8, "top_p": 0.95, "seed": 5, "max_new_tokens": 24, "read_emotion": "calm", "read_layer": 1,
    });
    let with = |more: Value| {
        let mut all = settings.as_object().unwrap().clone();
        all.extend(more.as_object().unwrap().clone());
        Value::Object(all)
    };
    let (first, _) = played(&serving.post("api/play", with(json!({ "turns": ["Tell me a story."] }))));
    let replies: Vec<Vec<&String>> = first.iter().map(|text| vec![text]).collect();
    let body = with(json!({ "turns": ["Tell me a story.", "And then?"], "replies": replies }));
    let (second, _) = played(&serving.post("api/play", body.clone()));
    assert!(first[0] != first[1] && first[1] != first[2], "{first:?}");
    assert_eq!(played(&serving.post("api/play", body.clone())).0, second, "the same again");
    let copied = serving.post("api/copy", body).json();
    assert_eq!(copied["notes"], json!([]));
    again(&copied);
    let samples = rows(&project, "results/exp-tried/tables/tried.scenario_samples.csv");
    let names: Vec<&str> = samples.iter().map(|row| row["steered"].as_str()).collect();
    assert_eq!(names, ["unsteered", "angry", "random-1"]);
    for (column, row) in samples.iter().enumerate() {
        assert_eq!((&row["text"], &row["earlier"]), (&second[column], &first[column]));
    }
    // A plain text, by the likeliest token; the new file takes the old one's place.
    let body = json!({
        "prompt": "He feels", "emotion": "sad", "strength": -0.25, "layers": [2], "positions": "content",
        "temperature": 0, "max_new_tokens": 16,
    });
    let (texts, readings) = played(&serving.post("api/play", body.clone()));
    let copied = serving.post("api/copy", body.clone()).json();
    again(&copied);
    let written = rows(&project, "results/exp-tried/tables/tried.steering_text.csv");
    for (column, name) in ["unsteered", "sad", "random-1"].into_iter().enumerate() {
        let row = written.iter().find(|row| row["steered"] == name).unwrap();
        assert_eq!(row["text"], texts[column], "{name}");
    }
    // Nothing written: the prompt is read all the same.
    let mut only = body.clone();
    only["max_new_tokens"] = json!(0);
    let (none, read) = played(&serving.post("api/play", only.clone()));
    assert_eq!(none, ["", "", ""]);
    for (at, value) in &read[1] {
        assert!((value - readings[1][at]).abs() < 1e-4, "token {at}");
    }
    serving.post("api/copy", only).refused(400, "no tokens are generated");
    let mut off = body;
    off["strength"] = json!(0);
    serving.post("api/copy", off).refused(400, "there is no steering");
}

#[test]
fn nobody_else_may_ask() {
    let project = Project::new(EXPERIMENT);
    let serving = Serving::start(&project);
    let (host, token) = (serving.host(), serving.token.clone());
    let ask = |method: &str, path: &str, headers: &str| serving.with(method, path, headers, "");
    let own = format!("/{token}/api/status");
    assert_eq!(ask("GET", &own, &host).status, 200);
    // DNS rebinding: another name for this machine.
    for host in [
        "Host: evil.example\r\n",
        "Host: 127.0.0.1.evil.example:80\r\n",
        "Host: localhost:80:80\r\n",
        "",
        "Host: 127.0.0.1\r\nHost: evil.example\r\n",
    ] {
        let answer = ask("GET", &own, host);
        assert!([400, 403].contains(&answer.status), "{host:?}: {}", answer.head);
    }
    // A tunnel has a port of its own.
    assert_eq!(ask("GET", &own, "Host: localhost:1234\r\n").status, 200);
    // A page of another site.
    for origin in ["http://evil.example", "null", "https://127.0.0.1", "http://localhost"] {
        ask("GET", &own, &format!("{host}Origin: {origin}\r\n")).refused(403, "`Origin`");
    }
    let here = format!("{host}Origin: http://127.0.0.1:{}\r\n", serving.port);
    assert_eq!(ask("GET", &own, &here).status, 200);
    ask("OPTIONS", &own, &host).refused(405, "OPTIONS");
    // Without the token, or with another.
    let other = format!("/{}/api/status", "0".repeat(token.len()));
    for path in ["/", "/api/status", other.as_str(), "//api/status", "/v1/models"] {
        ask("GET", path, &host).refused(403, "the token");
    }
    let key = |key: &str| format!("{host}Authorization: Bearer {key}\r\n");
    assert_eq!(ask("GET", "/v1/models", &key(&token)).json()["data"][0]["id"], "demo");
    ask("GET", "/v1/models", &key("x")).refused(403, "the token");
    ask("GET", "/api/status", &key(&token)).refused(403, "the token");
    // A form of a page could send this without asking.
    let form = format!("{host}Content-Type: text/plain\r\n");
    ask("POST", &format!("/{token}/v1/completions"), &form).refused(415, "application/json");
    // Bounds.
    let head = format!("POST {own} HTTP/1.1\r\n{host}");
    serving.raw(format!("{head}Content-Length: 99999999999\r\n\r\n").as_bytes()).refused(413, "at most");
    serving.raw(format!("{head}Content-Length: x\r\n\r\n").as_bytes()).refused(400, "not a number");
    serving
        .raw(format!("{head}Transfer-Encoding: chunked\r\n\r\n").as_bytes())
        .refused(411, "Content-Length");
    serving.raw(format!("{head}X: {}\r\n\r\n", "y".repeat(20_000)).as_bytes()).refused(431, "at most");
    serving.raw(b"nonsense\r\n\r\n").refused(400, "HTTP/1.1");
    // Nothing outside the results; these are given as they are.
    std::fs::create_dir_all(project.path("results/exp")).unwrap();
    std::fs::write(project.path("results/exp/report.html"), "<html><body>found</body></html>").unwrap();
    let report = serving.get("results/report.html");
    assert!(report.body.contains("found") && report.body.contains("../playground"), "{}", report.body);
    for path in [
        "results/../../exp.toml",
        "results/%2e%2e/%2e%2e/exp.toml",
        "results/..%2f..%2fexp.toml",
        "results//etc/passwd",
        "results/",
    ] {
        serving.get(path).refused(404, "no file");
    }
    for page in ["", "playground", "tables"] {
        let answer = serving.get(page);
        assert!(
            answer.status == 200 && answer.head.contains("Content-Security-Policy: default-src 'none'"),
            "{page}"
        );
        assert!(!answer.body.contains("http://") && !answer.body.contains("https://"), "{page} asks others");
    }
}

#[test]
fn nothing_that_is_asked_is_passed_over() {
    let project = Project::new(EXPERIMENT);
    let serving = Serving::start(&project);
    let chat = |more: Value| {
        let mut body =
            json!({ "messages": [{ "role": "user", "content": "Hello." }], "max_tokens": 4, "seed": 1 });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serving.post("v1/chat/completions", body)
    };
    let steered = |more: Value| {
        let mut item = json!({ "emotion": "sad", "strength": 0.1 });
        item.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        chat(json!({ "steering": [item] }))
    };
    chat(json!({ "temprature": 1 })).refused(400, "did you mean `temperature`");
    chat(json!({ "model": "gpt-4" })).refused(404, "no model `gpt-4`; models of the experiment: demo");
    chat(json!({ "tools": [{ "type": "function" }] })).refused(400, "`tools`");
    chat(json!({ "presence_penalty": 0.5 })).refused(400, "not supported");
    chat(json!({ "temperature": -1 })).refused(400, "from 0 to 10");
    chat(json!({ "n": 1000 })).refused(400, "from 1 to 64");
    chat(json!({ "messages": [] })).refused(400, "1 to 1000 turns");
    chat(json!({ "messages": [{ "role": "tool", "content": "x" }] })).refused(400, "no role `tool`");
    let image =
        json!({ "messages": [{ "role": "user", "content": [{ "type": "image_url", "image_url": "x" }] }] });
    chat(image).refused(400, "text only");
    chat(json!({ "messages": [{ "role": "user", "content": "Hi." }, { "role": "assistant", "content": "I" }] }))
        .refused(400, "continue_final_message");
    chat(json!({ "steering": { "emotion": "sad" } })).refused(400, "`steering`");
    steered(json!({ "emotion": "happi" })).refused(400, "did you mean `happy`");
    steered(json!({ "strenght": 1 })).refused(400, "did you mean `strength`");
    steered(json!({ "strength": null })).refused(400, "`steering[0].strength` is missing");
    steered(json!({ "strength": 1e9 })).refused(400, "from -100 to 100");
    steered(json!({ "layers": [3] }))
        .refused(400, "layer 3 is not among the kept layers: there are vectors at 1, 2");
    steered(json!({ "layers": [] })).refused(400, "`steering[0].layers`");
    steered(json!({ "positions": "content" }))
        .refused(400, "positions in a conversation: all, prompt, generated");
    steered(json!({ "stories": "own" })).refused(400, "there are: passages");
    steered(json!({ "model": "other" })).refused(400, "not the request");
    // Right, but nothing has made the vectors yet.
    steered(json!({})).refused(503, "not in the cache yet");
    assert_eq!(chat(json!({})).status, 200, "no vector is needed");
    serving.post("v1/completions", json!({ "prompt": [99999] })).refused(400, "not in the model");
    serving
        .post("v1/completions", json!({ "prompt": "x", "max_tokens": 9999 }))
        .refused(400, "from 0 to 512");
    let long = vec![5; 600];
    serving.post("v1/completions", json!({ "prompt": long })).refused(400, "context of 512");
    serving.post("v1/completions", json!({ "prompt": {} })).refused(400, "`prompt` is");
    serving.post("v1/embeddings", json!({})).refused(404, "nothing at");
    serving.get("v1/chat/completions").refused(405, "POST");
    serving.post("v1/models", json!({})).refused(405, "GET");
    let body = format!("{}Content-Type: application/json\r\n", serving.host());
    let path = format!("/{}/v1/chat/completions", serving.token);
    serving.with("POST", &path, &body, "{\"a\": ").refused(400, "not JSON");
    // With everything that a client of the protocol may send, in one answer.
    assert_eq!(project.run(&["--only", "stage:vectors"]).code, 0);
    let all = json!({
        "model": "demo", "frequency_penalty": 0, "presence_penalty": 0.0, "logit_bias": {}, "user": "me", "stop": null,
        "logprobs": true, "top_logprobs": 2, "stream": true, "stream_options": { "include_usage": true }, "temperature": 0,
        "response_format": { "type": "text" },
        "messages": [{ "role": "system", "content": "Be kind." }, { "role": "user", "content": [{ "type": "text", "text": "Hello." }] }],
        "steering": [
            { "emotion": "sad", "strength": 0.1, "layers": "default", "positions": "generated", "stories": "passages" },
            { "emotion": "random-2", "strength": -0.05, "layers": [1] },
        ],
    });
    let events = chat(all).events();
    let parsed: Vec<Value> =
        events[..events.len() - 1].iter().map(|e| serde_json::from_str(e).unwrap()).collect();
    assert_eq!(parsed[0]["choices"][0]["delta"]["role"], "assistant");
    let told = &parsed[1]["choices"][0]["logprobs"]["content"][0];
    assert_eq!(told["top_logprobs"].as_array().unwrap().len(), 2);
    assert_eq!(told["logprob"], told["top_logprobs"][0]["logprob"]);
    assert_eq!(parsed[1]["emoflow"]["steering"][0]["layers"], json!([2]));
    let usage = &parsed.last().unwrap()["usage"];
    assert!(
        usage["completion_tokens"].as_u64().unwrap() <= 4 && usage["prompt_tokens"].as_u64().unwrap() > 4,
        "{usage}"
    );
}

#[test]
fn tables_are_filtered_searched_and_sorted() {
    let project = Project::new(EXPERIMENT);
    assert_eq!(project.run(&["--only", "stories/passages"]).code, 0);
    let serving = Serving::start(&project);
    let stories = rows(&project, "results/exp/stories/passages.csv");
    let ask = |query: &str| serving.get(&format!("api/rows?file=stories/passages.parquet&{query}")).json();
    let all = ask("n=3");
    assert_eq!(
        (all["total"].as_u64(), all["rows"].as_array().map(Vec::len)),
        (Some(stories.len() as u64), Some(3))
    );
    let column =
        |name: &str| all["columns"].as_array().unwrap().iter().position(|c| c["name"] == name).unwrap();
    let sad = stories.iter().filter(|row| row["emotion"] == "sad").count();
    assert_eq!(ask("is.emotion=sad")["found"], sad);
    let with = stories
        .iter()
        .filter(|row| row.values().any(|cell| cell.to_lowercase().contains("telephone")))
        .count();
    assert!(with > 0);
    assert_eq!(ask("q=TELEPHONE")["found"], with);
    let sorted = ask("sort=-index&n=500");
    let index: Vec<i64> =
        sorted["rows"].as_array().unwrap().iter().map(|row| row[column("index")].as_i64().unwrap()).collect();
    assert!(index.iter().rev().is_sorted() && index[0] > 0);
    serving.get("api/rows?file=stories/passages.parquet&sort=none").refused(400, "no column `none`");
    serving.get("api/rows?file=../exp.toml").refused(404, "no file");
    let status = serving.get("api/status").json();
    assert_eq!((status["experiment"].as_str(), status["state"].as_str()), (Some("exp"), Some("finished")));
    let files = serving.get("api/files").json();
    assert!(files.as_array().unwrap().iter().any(|file| file["name"] == "stories/passages.csv"));
}
