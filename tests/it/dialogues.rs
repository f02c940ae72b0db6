//! Dialogues end to end on the demonstration model: from their texts over pooled spans to whose emotion it is.

use emoflow::lm::{Batch, Chat, Ending, Hook, Layer, Message, Role};
use emoflow::stages::readings::{Said, Text};
use emoflow::stages::spans::{self, Params, Span};
use tch::Tensor;

use crate::project::Project;

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
    // Six differences and means, and the arousal of five rated emotions, at each of two layers; 25 dialogues on five passages.
    assert_eq!(csv.lines().filter(|line| line.ends_with(",25,5,0")).count(), 14, "{csv}");
    let page = std::fs::read_to_string(project.path("results/exp/report.html")).unwrap();
    assert!(page.contains("Vectors by speaker and owner") && page.contains("What goes with what"));
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
    let page = std::fs::read_to_string(project.path("results/exp/report.html")).unwrap();
    assert!(
        page.contains("Changes before the answer: hard") && page.contains("Before and after, over emotions")
    );
    let wrong = Project::new(&SHIFT.replace("tuned = \"seed1\"", "tuned = \"small\""));
    assert_eq!(wrong.emoflow("check", &[]).code, 2);
}
