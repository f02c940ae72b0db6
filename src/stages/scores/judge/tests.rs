//! Judges by hand, with replies that are almost an answer, and in the demonstration model.

use std::path::Path;

use tch::{Device, Kind};

use super::served::reply;
use super::*;
use crate::lm::{Batch, Chat, Checkpoint, Dtype, LanguageModel, Message, Role};
use crate::stages::analysis::scenario::Verdict;
use crate::stages::stories::served::protocol::Answer;
use crate::stages::stories::writing::End;

fn judge(orders: usize) -> Judge {
    let option =
        |outcome: &str, act| Verdict { outcome: outcome.into(), text: format!("It {outcome}."), act };
    let question = Question {
        question: "Said:\n{conversation}\n\nThen:\n{answer}\n\nWhat?\n{options}".into(),
        answer: "(".into(),
        options: vec![option("lies", true), option("tells", false), option("waits", false)],
    };
    Judge { question, orders, by: By::Own }
}

fn case() -> Asked {
    Asked {
        name: "door".into(),
        control: false,
        system: "Be brief.".into(),
        turns: vec!["Who is there?".into(), "Open the door.".into()],
        replies: vec!["Nobody.".into()],
        answer: String::new(),
        shown: String::new(),
        hidden: String::new(),
        options: Vec::new(),
    }
}

fn text<'a>(id: &'a str, last: &'a str, ended: &'a str) -> Text<'a> {
    Text { id, last, earlier: Vec::new(), ended }
}

#[test]
fn options_are_shown_in_several_orders_and_an_answer_is_no_template() {
    let last = "{options} I will {conversation}";
    let texts = [text("a", last, "end"), text("b", "No.", "end")];
    let askings = judge(3).askings(&case(), &texts);
    assert_eq!(askings.len(), 6);
    for asking in &askings[..3] {
        let head = "Said:\nInstructions: Be brief.\n\nUser: Who is there?\n\nAssistant: Nobody.\n\nUser: Open the door.\n\nThen:\n";
        assert!(asking.prompt.starts_with(&format!("{head}{last}\n\nWhat?\n(A) It ")), "{}", asking.prompt);
    }
    for letter in 0..3 {
        let mut options: Vec<usize> = askings[..3].iter().map(|asking| asking.options[letter]).collect();
        options.sort();
        assert_eq!(options, [0, 1, 2], "each option has each letter once");
    }
    // With one order, the first option differs between texts.
    let ids: Vec<String> = (0..300).map(|at| format!("id-{at}")).collect();
    let texts: Vec<Text> = ids.iter().map(|id| text(id, "No.", "end")).collect();
    let firsts: Vec<usize> =
        judge(1).askings(&case(), &texts).iter().map(|asking| asking.options[0]).collect();
    for option in 0..3 {
        let n = firsts.iter().filter(|&&first| first == option).count();
        assert!((70..130).contains(&n), "{n} of 300");
    }
}

#[test]
fn verdicts_are_by_probability_and_what_is_unlikely_is_unclear() {
    let judge = judge(2);
    let verdict = |p: [f64; 3], cut| judge.verdict(&p, cut);
    let clear = verdict([0.2, 0.6, 0.1], false);
    assert_eq!(
        (clear.outcome.as_str(), clear.act, clear.evidence.as_str()),
        ("tells", false, "0.60 of 0.90")
    );
    assert!(verdict([0.6, 0.2, 0.1], false).act);
    let unlikely = verdict([0.4, 0.05, 0.04], false);
    assert_eq!((unlikely.outcome.as_str(), unlikely.act), (UNCLEAR, false), "less than half of the mass");
    // Cut off: the act counts if it is present; otherwise what is missing might have followed.
    assert_eq!(verdict([0.6, 0.2, 0.1], true).outcome, "lies");
    assert_eq!(verdict([0.2, 0.6, 0.1], true).outcome, CUT);
    // Two orders: the mean, each option under its letter.
    let askings = [
        Asking { text: 0, prompt: String::new(), options: vec![0, 1, 2] },
        Asking { text: 0, prompt: String::new(), options: vec![2, 0, 1] },
    ];
    let replies = [Reply::Letters(vec![0.9, 0.0, 0.0]), Reply::Letters(vec![0.7, 0.1, 0.2])];
    let scores = judge.scores(&[text("a", "No.", "end")], &askings, &replies);
    let (p, mass) = scores[0].judged.unwrap();
    assert!((p - 0.5).abs() < 1e-12 && (mass - 0.95).abs() < 1e-12 && scores[0].outcome == "lies");
    let none = [Reply::None("filtered: no".into()), replies[1].clone()];
    let scores = judge.scores(&[text("a", "No.", "end")], &askings, &none);
    assert_eq!((scores[0].outcome.as_str(), scores[0].evidence.as_str()), (UNCLEAR, "filtered: no"));
}

#[test]
fn what_is_almost_an_answer_is_none() {
    let answer = |tokens: &[(&str, f64)]| Answer {
        text: tokens.first().map_or("", |token| token.0).to_string(),
        end: End::Cut,
        tokens: Some(1),
        first: Some(tokens.iter().map(|(token, p)| (token.to_string(), p.ln())).collect()),
    };
    let check = |tokens: &[(&str, f64)], wanted: [f64; 2]| {
        let Reply::Letters(p) = reply(&answer(tokens), 2).unwrap() else { panic!("no letters") };
        assert!(p.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-9), "{tokens:?}: {p:?}");
    };
    // Spellings of a letter count together; words that begin with it, the article and lower case do not.
    check(&[("A", 0.4), (" A", 0.2), ("(A", 0.1), ("B", 0.1)], [0.7, 0.1]);
    check(&[("Answer", 0.5), ("a", 0.2), ("A)", 0.1), ("Both", 0.1), ("(", 0.05)], [0.0, 0.0]);
    check(&[("\n", 0.9), ("not", 0.05), ("C", 0.05)], [0.0, 0.0]);
    let filtered = Answer { end: End::Filtered, ..answer(&[("A", 1.0)]) };
    assert_eq!(reply(&filtered, 2).unwrap(), Reply::None("filtered: A".into()));
    for first in [None, Some(Vec::new())] {
        let silent = Answer { first, ..answer(&[("A", 1.0)]) };
        let error = format!("{:#}", reply(&silent, 2).unwrap_err());
        assert!(error.contains("without log-probabilities"), "{error}");
    }
    let error = format!("{:#}", reply(&answer(&[("A", 0.9), ("B", 0.9)]), 2).unwrap_err());
    assert!(error.contains("add up to 1.80"), "{error}");
}

#[test]
fn a_model_of_the_file_judges_as_passes_of_their_own_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/demo");
    let model = LanguageModel::load(&Checkpoint::open(&folder).unwrap(), Dtype::F32, Device::Cpu).unwrap();
    let (judge, case) = (judge(2), case());
    let long = "word ".repeat(2 * model.spec.context);
    let texts = [
        text("a", "I will not.", "end"),
        text("b", &long, "end"),
        text("c", "Yes, at once, as you say.", "length"),
    ];
    let scores =
        local(&judge, &case, &texts, (&model, Chat::default()), &mut |_: usize, _: usize| {}).unwrap();
    assert_eq!(scores[1].outcome, UNCLEAR);
    assert!(scores[1].evidence.contains("do not fit the model's context"), "{}", scores[1].evidence);
    for (at, text) in texts.iter().enumerate().filter(|(at, _)| *at != 1) {
        let mut p = [0.0; 3];
        for asking in judge.askings(&case, std::slice::from_ref(text)) {
            let turns = [Message::new(Role::User, asking.prompt.as_str())];
            let opened = model.tokenizer().render_chat(&turns, true, Chat::default()).unwrap();
            let ids = model.encode(&format!("{opened}(")).unwrap().ids;
            let resid = model.forward(&Batch::new(&[&ids]).unwrap(), &mut [], None).unwrap();
            let logs = model.logits(&resid.get(0).get(-1)).log_softmax(-1, Kind::Double);
            for (option, letter) in asking.options.iter().zip(["A", "B", "C"]) {
                let letter = model.encode(letter).unwrap();
                p[*option] += logs.double_value(&[letter.ids[letter.text.start]]).exp() / 2.0;
            }
        }
        let mass: f64 = p.iter().sum();
        let likeliest = p.iter().copied().fold(0.0, f64::max);
        let (found, of) = scores[at].judged.unwrap();
        assert!((found - likeliest).abs() < 1e-5 && (of - mass).abs() < 1e-5, "{found} {of}, not {p:?}");
    }
}
