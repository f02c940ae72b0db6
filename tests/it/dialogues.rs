//! Dialogues end to end on the demonstration model: from their texts over pooled spans to whose emotion it is.

use emoflow::lm::{Batch, Chat, Ending, Hook, Layer, Message, Role};
use emoflow::stages::readings::{Said, Text};
use emoflow::stages::spans::{self, Params, Span};
use serde_json::Value;
use tch::Tensor;

use crate::project::Project;
use crate::stages::numbers;

const EXPERIMENT: &str = r#"
name = "exp"
layers = [1, 2]
[models.demo]
path = "{demo}"
[emotions]
words = ["happy", "sad", "angry", "calm", "tired"]
[stories.passages.template]
passages = ["She was {emotion} all day.", "He went home and felt {emotion}."]
[dialogues.talk.template]
passages = [
    "Person: I came home late and I am {emotion}.\nAssistant: That makes me {other}.\nPerson: So {emotion}.\nAssistant: And me {other}.",
    "Person: The bus was late, what a {emotion} day.\nAssistant: I feel {other} for you.",
    "Person: My dog ran away and now I am {emotion}.\nAssistant: Look at me, I am {other} too.",
    "Person: She said it in a {emotion} voice.\nAssistant: It leaves me {other}.",
    "Person: They wrote, and I felt {emotion}.\nAssistant: Reading it I am {other}.",
]
[activations]
from_token = 0
[analysis.whose.speakers]
dialogues = "talk"
layers = "all"
resamples = 20
permutations = 20
[analysis.along.readings]
transcripts = ["talk"]
random = 2
"#;

#[test]
fn dialogues_are_read_and_their_sets_compared() {
    let project = Project::new(EXPERIMENT);
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    for node in
        ["stories/talk", "texts/talk", "spans/whose/demo", "whose/demo/passages", "along/demo/passages"]
    {
        assert_eq!(ran.nodes.get(node).map(String::as_str), Some("ran"), "{node}: {:?}", ran.nodes);
    }
    let csv = std::fs::read_to_string(project.path("results/exp/tables/whose.speakers_tests.csv")).unwrap();
    // Six differences and means, the arousal of five rated emotions, and two R^2, at each of two layers; 25 dialogues on five passages.
    assert_eq!(csv.lines().filter(|line| line.ends_with(",25,5,0")).count(), 18, "{csv}");
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(page.contains("Vectors by speaker and owner") && page.contains("Shared properties"));
    // Nothing is computed again; another emotion for the assistant is another dialogue.
    assert!(project.run(&[]).names("ran").is_empty());
    project.write(&EXPERIMENT.replace("It leaves me", "Now it leaves me"));
    let ran = project.run(&[]);
    let again = ran.names("ran");
    assert!(again.contains(&"spans/whose/demo") && !again.contains(&"vectors/demo/passages"), "{again:?}");
}

#[test]
fn what_is_wrong_with_dialogues_is_told() {
    let check = |from: &str, to: &str, wanted: &str| {
        let project = Project::new(&EXPERIMENT.replace(from, to));
        let mut program = std::process::Command::new(env!("CARGO_BIN_EXE_emoflow"));
        let ended = program.arg("check").arg(project.path("exp.toml")).output().unwrap();
        let said = String::from_utf8_lossy(&ended.stderr).into_owned();
        assert!(ended.status.code() == Some(2) && said.contains(wanted), "{wanted}: {said}");
    };
    check("dialogues = \"talk\"", "dialogues = \"walk\"", "there are no dialogues `walk`");
    check("dialogues = \"talk\"\n", "", "`dialogues`");
    check(
        "[dialogues.talk.template]",
        "[dialogues.talk.template]\nkind = \"deflection\"",
        "of the kind `deflection`",
    );
    check("whose.speakers", "whose.deflection", "of the kind `speakers`");
    let one =
        "[analysis.whose.deflection]\ndialogues = \"talk\"\nprompts = { plain = [\"a\", \"b\", \"c\"] }\n#";
    check("[analysis.whose.speakers]\ndialogues = \"talk\"", one, "`prompts` has one class");
    check("It leaves me {other}.", "It leaves me.", "does not contain `{other}`");
    check("[dialogues.talk.template]", "[dialogues.passages.template]", "the name of two sources");
}

/// Keeps a layer's residuals whole.
struct Whole(Layer, Option<Tensor>);

impl Hook for Whole {
    fn resid_post(&mut self, layer: Layer, resid: Tensor, _: &Batch) -> Tensor {
        if layer == self.0 {
            self.1 = Some(resid.shallow_clone());
        }
        resid
    }
}

/// Spans of conversations of many lengths, read in one batch, are the means of the residuals of each conversation read alone, over
/// the tokens that decode to what is said.
#[test]
fn spans_are_means_over_the_tokens_that_say_it() {
    let model = crate::stages::load("models/demo");
    let chat = Chat::default();
    let said = |turns: &[(Role, &str)]| {
        turns.iter().map(|(role, said)| Message::new(*role, said.to_string())).collect::<Vec<_>>()
    };
    let conversations = [
        said(&[
            (Role::User, "I came home late."),
            (Role::Assistant, "That was a long day."),
            (Role::User, "So it was."),
            (Role::Assistant, "Sleep well now, and do not think of it any more until the morning comes."),
        ]),
        said(&[(Role::User, "The dog ran."), (Role::Assistant, "Oh no.")]),
    ];
    let text = |(at, turns): (usize, &Vec<Message>)| Text {
        id: at.to_string(),
        said: Said::Turns(turns.clone()),
        label: None,
        place: String::new(),
        event: None,
        labels: None,
    };
    let texts: Vec<Text> = conversations.iter().enumerate().map(text).collect();
    let layer = Layer::Block(2);
    let spans = vec![Span::User, Span::Assistant, Span::UserLast, Span::BeforeAnswer, Span::AnswerStart];
    let params = Params { layers: vec![Layer::Block(0), layer], spans, open: false, chat: Some(chat) };
    let [table, unread] = spans::run(&texts, &params, &model, &mut |_, _| {}).unwrap();
    assert_eq!((table.rows(), unread.rows()), (20, 0));
    let (id, of, span) =
        (table.str("text_id").unwrap(), table.i32("layer").unwrap(), table.str("span").unwrap());
    let (d, values) = table.list("activation").unwrap();
    for (at, turns) in conversations.iter().enumerate() {
        let ids = model.tokenizer().encode_turns(turns, Ending::Closed, chat).unwrap().ids;
        // The template is `<|role|>said</s>`: what is said stands between two special tokens.
        let piece = |id: &i64| model.token(*id as u32);
        let mut tokens: Vec<Vec<usize>> = Vec::new();
        for (token, text) in ids.iter().map(piece).enumerate() {
            if text.starts_with("<|") {
                tokens.push(Vec::new());
            } else if text != "<s>" && text != "</s>" {
                tokens.last_mut().unwrap().push(token);
            }
        }
        assert_eq!(tokens.len(), turns.len());
        let of_role =
            |first: usize| tokens.iter().skip(first).step_by(2).flatten().copied().collect::<Vec<_>>();
        let last = turns.len() - 1;
        let answer = &tokens[last];
        let wanted = [
            ("user", of_role(0)),
            ("assistant", of_role(1)),
            ("user_last", vec![*tokens[last - 1].last().unwrap()]),
            ("before_answer", vec![answer[0] - 1]),
            ("answer_start", answer[..answer.len().min(20)].to_vec()),
        ];
        let mut whole = Whole(layer, None);
        let _resid = model.forward(&Batch::new(&[&ids]).unwrap(), &mut [&mut whole], Some(layer)).unwrap();
        let resid = whole.1.unwrap().get(0).to_kind(tch::Kind::Double);
        for (name, tokens) in wanted {
            let at_tokens: Vec<i64> = tokens.iter().map(|&token| token as i64).collect();
            let mean =
                resid.index_select(0, &Tensor::from_slice(&at_tokens)).mean_dim(0, false, tch::Kind::Double);
            let want = Vec::<f64>::try_from(mean).unwrap();
            let row = (0..table.rows())
                .find(|&row| id[row] == at.to_string() && of[row] == 2 && span[row] == name)
                .unwrap();
            assert_eq!(table.i32("n_tokens").unwrap()[row] as usize, tokens.len(), "{name}");
            for (x, y) in values[row * d..(row + 1) * d].iter().zip(want) {
                assert!((f64::from(*x) - y).abs() < 2e-5, "{at} {name}: {x} {y}");
            }
        }
    }
}

const SHIFT: &str = r#"
name = "exp"
layers = [2]
[models.small]
path = "{demo}-small"
[models.seed1]
path = "{demo}-seed1"
[models.again]
path = "{demo}-small"
[emotions]
words = ["happy", "sad", "angry", "calm"]
[stories.passages.template]
passages = ["She was {emotion} all day.", "He went home and felt {emotion}."]
[activations]
from_token = 0
[analysis.training.shift]
base = "small"
tuned = "seed1"
prompts = { plain = ["Rain fell.", "The bus came.", "It was late."], hard = ["Go away.", "She cried.", "He lost it."] }
permutations = 20
resamples = 20
[analysis.nothing.shift]
base = "small"
tuned = "again"
vectors = "base"
wrap = "chat"
permutations = 20
resamples = 20
"#;

/// Two models of one architecture; and of a model and itself nothing changes.
#[test]
fn base_and_tuned_are_compared_and_a_model_with_itself_does_not_change() {
    let project = Project::new(SHIFT);
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    for node in
        ["texts/training.texts", "spans/training/small", "spans/training/seed1", "training/seed1/passages"]
    {
        assert_eq!(ran.nodes.get(node).map(String::as_str), Some("ran"), "{node}: {:?}", ran.nodes);
    }
    assert!(!ran.nodes.contains_key("training/small/passages"), "{:?}", ran.nodes);
    let read = |name: &str| {
        std::fs::read_to_string(project.path(&format!("results/exp/tables/{name}.csv"))).unwrap()
    };
    let changes = |name: &str| -> Vec<f64> {
        let text = read(name);
        let mut lines = text.lines();
        let at = lines.next().unwrap().split(',').position(|column| column == "value").unwrap();
        lines.map(|line| line.split(',').nth(at).unwrap().parse().unwrap()).collect()
    };
    let (changed, same) = (changes("training"), changes("nothing"));
    assert_eq!((changed.len(), same.len()), (8, 8));
    assert!(changed.iter().all(|x| x.is_finite()) && changed.iter().any(|x| x.abs() > 0.01), "{changed:?}");
    assert!(same.iter().all(|x| *x == 0.0), "{same:?}");
    let tests = read("training.shift_tests");
    assert!(
        tests.contains("\"r between the models, hard\"") || tests.contains("r between the models"),
        "{tests}"
    );
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(
        page.contains("Changes before the answer: hard") && page.contains("Before and after, over emotions")
    );
    let wrong = Project::new(&SHIFT.replace("tuned = \"seed1\"", "tuned = \"small\""));
    assert_eq!(wrong.emoflow("check", &[]).code, 2);
}

/// The emotions and texts of `golden`, and how vectors are computed from them, as a part of an experiment.
fn texts(golden: &Value) -> String {
    format!(
        r#"[emotions]
words = {}
[stories.passages.template]
passages = {}
[neutral.template]
passages = {}
[activations]
from_token = 0
[vectors]
denoise = {{ components = {} }}"#,
        golden["emotions"], golden["stories"], golden["neutral"], golden["denoise"]
    )
}

/// As `tests/e2e/dialogues.py` has it: its texts as an experiment, and what transformers and NumPy find in them.
#[test]
fn hidden_emotions_and_situations_agree_with_transformers_and_numpy() {
    let golden: Value = serde_json::from_str(include_str!("../e2e/dialogues.json")).unwrap();
    agree(&golden, "path = \"{demo}\"");
}

/// What emoflow finds with a model is what stands in `golden`.
pub fn agree(golden: &Value, model: &str) {
    let classes = golden["prompts"].as_object().unwrap();
    let classes: Vec<String> = classes.iter().map(|(name, texts)| format!("{name} = {texts}")).collect();
    let situations = golden["situations"].as_array().unwrap().iter();
    let situations: Vec<String> = situations.map(|text| format!("[{text}, \"sad\"]")).collect();
    let project = Project::new(&format!(
        r#"
name = "exp"
layers = [{layer}]
[models.demo]
{model}
{texts}
[dialogues.masks.file]
kind = "deflection"
path = "hidden.jsonl"
topic = "topic"
[dialogues.talk.file]
path = "spoken.jsonl"
topic = "topic"
[analysis.hidden.deflection]
dialogues = "masks"
variance = {variance}
prompts = {{ {classes} }}
permutations = 9
resamples = 9
[analysis.whose.speakers]
dialogues = "talk"
situations = [{situations}]
permutations = 9
resamples = 9
"#,
        layer = golden["layer"],
        texts = texts(golden),
        variance = golden["variance"],
        classes = classes.join(", "),
        situations = situations.join(", "),
    ));
    for name in ["hidden", "spoken"] {
        let lines: Vec<String> =
            golden[name].as_array().unwrap().iter().map(|line| line.to_string()).collect();
        std::fs::write(project.path(&format!("{name}.jsonl")), lines.join("\n")).unwrap();
    }
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    let emotions: Vec<&str> =
        golden["emotions"].as_array().unwrap().iter().map(|e| e.as_str().unwrap()).collect();
    let rows = table(&project, "hidden");
    assert_eq!(rows.iter().map(|row| row["emotion"].as_str()).collect::<Vec<_>>(), emotions);
    for column in ["norm", "kept", "cosine"] {
        near(&numbers_of(&rows, column), &numbers(&golden[column]), column);
    }
    assert_eq!(numbers_of(&rows, "components"), [golden["components"].as_f64().unwrap(); 5]);
    for column in ["own_rank", "own_rank_outside"].into_iter().filter(|column| golden.get(column).is_some()) {
        assert_eq!(numbers_of(&rows, column), numbers(&golden[column]), "{column}");
    }
    let tests = table(&project, "hidden.deflection_tests");
    let value = |rows: &[Row], what: &str| -> f64 {
        rows.iter().find(|row| row["what"] == what).unwrap()["value"].parse().unwrap()
    };
    let with =
        ["hidden emotion, with stories", "shown emotion, with stories"].map(|what| value(&tests, what));
    near(&with, &numbers(&golden["with_stories"]), "with stories");
    let read = table(&project, "hidden.deflection_prompts");
    for vectors in ["stories", "hidden"] {
        let own: Vec<Row> = read.iter().filter(|row| row["vectors"] == vectors).cloned().collect();
        let of_classes = golden["read"][vectors].as_array().unwrap().iter();
        near(&numbers_of(&own, "mean"), &of_classes.flat_map(numbers).collect::<Vec<_>>(), vectors);
    }
    let tests = table(&project, "whose.speakers_tests");
    let r2 = ["R\u{b2} with stories on situations", "R\u{b2} with stories on situations, centred"];
    near(&r2.map(|what| value(&tests, what)), &numbers(&golden["r2"]), "R2");
    let page = crate::page(&project.path("results/exp/report.html"));
    assert!(
        page.contains("Logit lens before and after projection")
            && page.contains("Prompts by class, hidden emotions")
    );
}

/// What a fine-tune of the demonstration model changes before the answer is what transformers and NumPy find (`tests/e2e/dialogues.py`): it was
/// trained on one class of the prompts, in its last block alone, and below that nothing changes.
#[test]
fn what_a_fine_tune_changes_agrees_with_transformers_and_numpy() {
    let golden: Value = serde_json::from_str(include_str!("../e2e/dialogues.json")).unwrap();
    let shift = &golden["shift"];
    let classes = shift["prompts"].as_object().unwrap();
    let prompts: Vec<String> = classes.iter().map(|(name, texts)| format!("{name} = {texts}")).collect();
    let project = Project::new(&format!(
        r#"
name = "exp"
layers = [2, {layer}]
[models.before]
path = "{{demo}}"
dtype = "f32"
[models.after]
path = "{{demo}}"
adapter = "{{demo}}-planted"
dtype = "f32"
{texts}
[analysis.training.shift]
base = "before"
tuned = "after"
vectors = "base"
wrap = "chat"
layers = "all"
prompts = {{ {prompts} }}
permutations = 9
resamples = 9
"#,
        layer = shift["layer"],
        texts = texts(&golden),
        prompts = prompts.join(", "),
    ));
    let ran = project.run(&[]);
    assert_eq!(ran.code, 0, "{:?}", ran.nodes);
    let of = |name: &str, layer: String| -> Vec<Row> {
        table(&project, name).into_iter().filter(|row| row["layer_b"] == layer).collect()
    };
    assert!(numbers_of(&of("training", "2".into()), "value").iter().all(|change| *change == 0.0));
    let rows = of("training", shift["layer"].to_string());
    for column in ["base", "tuned"] {
        near(&numbers_of(&rows, column), &numbers(&shift[column]), column);
    }
    near(
        &numbers_of(&of("training.shift_tests", shift["layer"].to_string()), "value"),
        &numbers(&shift["r"]),
        "r",
    );
    // What it was trained on changes more than what it was not.
    let size = |class: &str| -> f64 {
        let own: Vec<Row> = rows.iter().filter(|row| row["class"] == class).cloned().collect();
        numbers_of(&own, "value").iter().map(|change| change * change).sum()
    };
    assert!(size("door") > 2.0 * size("story"), "{} {}", size("door"), size("story"));
}

/// A row of a table, by column.
type Row = std::collections::BTreeMap<String, String>;

fn table(project: &Project, name: &str) -> Vec<Row> {
    let mut reader = csv::Reader::from_path(project.path(&format!("results/exp/tables/{name}.csv"))).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

fn numbers_of(rows: &[Row], column: &str) -> Vec<f64> {
    rows.iter().map(|row| row[column].parse().unwrap()).collect()
}

fn near(got: &[f64], want: &[f64], what: &str) {
    assert_eq!(got.len(), want.len(), "{what}");
    for (got, want) in got.iter().zip(want) {
        assert!((got - want).abs() < 2e-5 * (1.0 + want.abs()), "{what}: {got} is not {want}");
    }
}
