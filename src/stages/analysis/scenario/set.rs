//! Sets of scenarios, as written in files: cases, options, and the criteria of outcomes. Does not depend on a model.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use regex::Regex;
use serde::{Deserialize, Serialize};

use crate::stages::rollouts::Asked;
use crate::stages::scores::{CUT, UNCLEAR};

/// The built-in sets, by name.
const SHIPPED: [(&str, &str); 5] = [
    ("mailbox", include_str!("../../../params/presets/scenarios/mailbox.toml")),
    ("impossible-code", include_str!("../../../params/presets/scenarios/impossible-code.toml")),
    ("are-you-sure", include_str!("../../../params/presets/scenarios/are-you-sure.toml")),
    ("feedback", include_str!("../../../params/presets/scenarios/feedback.toml")),
    ("refusal", include_str!("../../../params/presets/scenarios/refusal.toml")),
];

/// Letters that label options.
pub const LETTERS: [&str; 8] = ["A", "B", "C", "D", "E", "F", "G", "H"];

/// A set as it is written in a file.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Set {
    /// For human readers: what the act is, and what the set can and cannot show.
    #[serde(skip_serializing)]
    pub about: String,
    /// Instructions for every case without its own.
    #[serde(default)]
    pub system: String,
    pub cases: Vec<Case>,
    /// The options offered at the end of each conversation.
    pub choices: Option<Choices>,
    /// Possible outcomes of a generated text; the first that matches applies.
    #[serde(default)]
    pub outcomes: Vec<Outcome>,
    /// What a judge is asked about such a text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub judge: Option<Question>,
    /// How programs in such texts are tested.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<Tested>,
}

/// For a set whose cases are programming tasks.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tested {
    /// A pattern: a text that matches says that the task cannot be done.
    pub gives_up: String,
}

/// A situation. Its texts may contain `{name}`, which is replaced by values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Case {
    pub name: String,
    pub system: Option<String>,
    /// The user's turns; the model answers after each.
    pub turns: Vec<String>,
    /// Prescribed answers of the model to the first turns; it writes the later ones itself.
    #[serde(default)]
    pub replies: Vec<String>,
    /// The beginning of its last answer.
    #[serde(default)]
    pub answer: String,
    /// A control: the twin of a case, without grounds for the act. It is counted separately.
    #[serde(default)]
    pub control: bool,
    /// For a programming task: tests in Python that the turns show, and tests that they do not show.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub shown: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hidden: String,
    /// Several values under one name produce as many cases.
    #[serde(default)]
    pub values: BTreeMap<String, Vec<String>>,
}

/// A question appended to the last turn.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choices {
    /// `{options}` is replaced by the options, each on a line with its letter.
    pub question: String,
    /// The beginning of the answer; a letter follows.
    #[serde(default = "open")]
    pub answer: String,
    pub options: Vec<Choice>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    pub text: String,
    /// Whether choosing it is the act.
    #[serde(default)]
    pub act: bool,
}

/// What a judge is asked about a text, and the possible verdicts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// `{conversation}` is replaced by the conversation before the last answer, `{answer}` by the last answer,
    /// `{options}` by the options, each on a line with its letter.
    pub question: String,
    /// The beginning of the judge's answer, for a judge that is not a server; a letter follows.
    #[serde(default = "open")]
    pub answer: String,
    pub options: Vec<Verdict>,
}

/// A possible verdict.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    pub outcome: String,
    /// The text shown to the judge.
    pub text: String,
    /// Whether it is the act.
    #[serde(default)]
    pub act: bool,
}

/// An outcome, and its criteria. Patterns are case-insensitive regular expressions. An outcome without criteria
/// applies to all remaining texts.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Outcome {
    pub name: String,
    /// Whether it is the act.
    #[serde(default)]
    pub act: bool,
    /// At least one of these patterns matches.
    #[serde(default)]
    pub any: Vec<String>,
    /// None of these patterns matches.
    #[serde(default)]
    pub none: Vec<String>,
    /// There is a block `<tool>` ... `</tool>` in which all named fields (`name: value`, one per line) match.
    pub tool: Option<String>,
    #[serde(default)]
    pub fields: BTreeMap<String, String>,
}

fn open() -> String {
    "(".into()
}

/// The names of the built-in sets.
pub fn names() -> impl Iterator<Item = &'static str> {
    SHIPPED.iter().map(|(name, _)| *name)
}

/// The built-in set of this name.
pub fn shipped(name: &str) -> Option<Set> {
    let (_, text) = SHIPPED.iter().find(|(set, _)| *set == name)?;
    Some(read(text).expect("a set that ships, which a test reads"))
}

/// A set from a user's file.
///
/// # Errors
/// With the file: not a set, or a set that violates a constraint.
pub fn of_file(path: &Path) -> Result<Set> {
    let read = || read(&fs_err::read_to_string(path)?);
    read().with_context(|| format!("read the scenario {}", path.display()))
}

/// A set given in the experiment file.
///
/// # Errors
/// Not a set, or a set that violates a constraint.
pub fn given(fields: serde_json::Value) -> Result<Set> {
    checked(serde_json::from_value(fields)?)
}

fn read(text: &str) -> Result<Set> {
    checked(toml::from_str(text)?)
}

fn checked(set: Set) -> Result<Set> {
    let mut names = HashSet::new();
    ensure!(!set.cases.is_empty(), "there is no case");
    for case in &set.cases {
        let place = || format!("case `{}`", case.name);
        ensure!(names.insert(&case.name), "there are two cases `{}`", case.name);
        ensure!(!case.turns.is_empty(), "{}: there is no turn", place());
        ensure!(
            case.replies.len() < case.turns.len(),
            "{}: a reply to the last turn is the model's",
            place()
        );
        for (name, values) in &case.values {
            ensure!(!values.is_empty(), "{}: `{name}` has no value", place());
            let mark = format!("{{{name}}}");
            ensure!(set.texts(case).any(|text| text.contains(&mark)), "{}: no text holds `{mark}`", place());
        }
        if set.choices.is_some() {
            let wanted = case.turns.len() - 1;
            ensure!(
                case.replies.len() == wanted,
                "{}: `choices` need a reply to each turn but the last",
                place()
            );
        }
    }
    if let Some(choices) = &set.choices {
        let n = choices.options.len();
        ensure!(
            choices.question.matches("{options}").count() == 1,
            "`choices.question` must hold `{{options}}` once"
        );
        ensure!((2..=LETTERS.len()).contains(&n), "{n} options: there may be 2 to {}", LETTERS.len());
        let acts = choices.options.iter().filter(|option| option.act).count();
        ensure!(
            (1..n).contains(&acts),
            "{acts} of {n} options are the act: log-odds need some on both sides"
        );
    }
    if let Some(judge) = &set.judge {
        let n = judge.options.len();
        for mark in ["{answer}", "{options}"] {
            let found = judge.question.matches(mark).count();
            ensure!(found == 1, "`judge.question` must hold `{mark}` once");
        }
        ensure!(
            (2..=LETTERS.len()).contains(&n),
            "{n} options of the judge's: there may be 2 to {}",
            LETTERS.len()
        );
        let mut names = HashSet::new();
        for Verdict { outcome, .. } in &judge.options {
            ensure!(names.insert(outcome.as_str()), "the judge has two options of the outcome `{outcome}`");
            ensure!(!ENDS.contains(&outcome.as_str()), "`{outcome}` is an outcome of its own");
        }
        ensure!(judge.options.iter().any(|option| option.act), "no option of the judge's is the act");
    }
    let (mut names, mut open) = (HashSet::new(), false);
    for outcome in &set.outcomes {
        ensure!(names.insert(outcome.name.as_str()), "there are two outcomes `{}`", outcome.name);
        ensure!(!ENDS.contains(&outcome.name.as_str()), "`{}` is an outcome of its own", outcome.name);
        ensure!(!open, "`{}` comes after an outcome that every text is", outcome.name);
        ensure!(
            outcome.fields.is_empty() || outcome.tool.is_some(),
            "`{}` has fields of no tool",
            outcome.name
        );
        open = outcome.is_rest();
        for pattern in outcome.any.iter().chain(&outcome.none).chain(outcome.fields.values()) {
            compiled(pattern).with_context(|| format!("outcome `{}`", outcome.name))?;
        }
    }
    if let Some(run) = &set.run {
        compiled(&run.gives_up).context("`run.gives_up`")?;
        for case in &set.cases {
            for (name, tests) in [("shown", &case.shown), ("hidden", &case.hidden)] {
                ensure!(!tests.trim().is_empty(), "case `{}`: `run` needs its `{name}` tests", case.name);
            }
        }
    }
    if set.choices.is_none() && set.outcomes.is_empty() && set.judge.is_none() && set.run.is_none() {
        bail!("neither `choices` nor `outcomes` nor `judge` nor `run`: nothing can be told");
    }
    Ok(set)
}

const ENDS: [&str; 2] = [CUT, UNCLEAR];

/// A pattern; `.` also matches line ends, and case is ignored.
pub fn compiled(pattern: &str) -> Result<Regex> {
    Regex::new(&format!("(?is){pattern}")).with_context(|| format!("the pattern {pattern:?}"))
}

impl Outcome {
    /// Whether it applies to all remaining texts.
    pub fn is_rest(&self) -> bool {
        self.any.is_empty() && self.none.is_empty() && self.tool.is_none()
    }
}

impl Set {
    fn texts<'a>(&'a self, case: &'a Case) -> impl Iterator<Item = &'a String> {
        let options =
            self.choices.iter().flat_map(|choices| choices.options.iter().map(|option| &option.text));
        let system = case.system.as_ref().unwrap_or(&self.system);
        let tests = [&case.shown, &case.hidden];
        case.turns.iter().chain(&case.replies).chain([system, &case.answer]).chain(tests).chain(options)
    }

    /// The cases with their values inserted, each with instructions and options: what the model is asked.
    pub fn asked(&self) -> Vec<Asked> {
        self.cases.iter().flat_map(|case| self.of_case(case)).collect()
    }

    fn of_case(&self, case: &Case) -> Vec<Asked> {
        let mut rows: Vec<Vec<(&str, &str)>> = vec![Vec::new()];
        for (name, values) in &case.values {
            let mut more = Vec::new();
            for row in &rows {
                for value in values {
                    more.push([row.as_slice(), &[(name.as_str(), value.as_str())]].concat());
                }
            }
            rows = more;
        }
        let several = rows.len() > 1;
        let asked = |(number, values): (usize, Vec<(&str, &str)>)| {
            let put = |text: &String| {
                values
                    .iter()
                    .fold(text.clone(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
            };
            let options = self
                .choices
                .iter()
                .flat_map(|choices| choices.options.iter().map(|option| put(&option.text)));
            Asked {
                name: if several { format!("{}-{}", case.name, number + 1) } else { case.name.clone() },
                control: case.control,
                system: put(case.system.as_ref().unwrap_or(&self.system)),
                turns: case.turns.iter().map(put).collect(),
                replies: case.replies.iter().map(put).collect(),
                answer: put(&case.answer),
                shown: put(&case.shown),
                hidden: put(&case.hidden),
                options: options.collect(),
            }
        };
        rows.into_iter().enumerate().map(asked).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ships_is_whole_and_has_a_canary() {
        let mut canaries = HashSet::new();
        for (name, text) in SHIPPED {
            let set = shipped(name).unwrap();
            let first = text.lines().next().unwrap();
            assert!(first.starts_with("# Canary: emoflow-") && canaries.insert(first), "{name}");
            assert!(
                set.choices.is_some()
                    && set.judge.is_some()
                    && set.outcomes.iter().any(|outcome| outcome.act),
                "{name}"
            );
            assert!(set.asked().len() >= 5 && set.about.contains("cannot show"), "{name}");
            for asked in set.asked() {
                let all =
                    asked.turns.iter().chain(&asked.replies).chain(&asked.options).chain([&asked.system]);
                assert!(all.clone().all(|text| !text.contains('{')), "{name}: {asked:?}");
                assert!(all.clone().all(|text| text.trim() == text), "{name}: {asked:?}");
            }
        }
        assert!(shipped("impossible-code").unwrap().asked().iter().any(|asked| asked.control));
    }

    #[test]
    fn values_multiply_cases() {
        let text = r#"
            about = ""
            system = "You are {who}."
            [[cases]]
            name = "one"
            turns = ["Say {what}."]
            values = { who = ["A", "B"], what = ["x", "y", "z"] }
            [[outcomes]]
            name = "yes"
            any = ["x"]
        "#;
        let asked = read(text).unwrap().asked();
        let shown: Vec<String> =
            asked.iter().map(|a| format!("{} {} {}", a.name, a.system, a.turns[0])).collect();
        assert_eq!(shown.len(), 6);
        assert_eq!(shown[5], "one-6 You are B. Say z.");
    }

    #[test]
    fn what_is_no_set_is_refused() {
        let check = |more: &str, wanted: &str| {
            let text = format!("about = \"\"\n[[cases]]\nname = \"one\"\nturns = [\"Hello.\"]\n{more}");
            let error = format!("{:#}", read(&text).unwrap_err());
            assert!(error.contains(wanted), "{error}");
        };
        check("", "neither `choices` nor `outcomes` nor `judge` nor `run`");
        check("[run]\ngives_up = \"x\"", "case `one`: `run` needs its `shown` tests");
        check("shown = \"a\"\n[run]\ngives_up = \"x\"", "case `one`: `run` needs its `hidden` tests");
        check("shown = \"a\"\nhidden = \"b\"\n[run]\ngives_up = \"(\"", "`run.gives_up`");
        check("turn = 1", "unknown field `turn`");
        check("replies = [\"Hi.\"]", "a reply to the last turn");
        check("values = { a = [\"b\"] }", "no text holds `{a}`");
        check("[[cases]]\nname = \"one\"\nturns = [\"a\"]", "two cases `one`");
        let options = "[choices]\nquestion = \"Q {options}\"\noptions = [{ text = \"a\" }, { text = \"b\" }]";
        check(options, "0 of 2 options are the act");
        let judge = |question: &str, options: &str| {
            format!("[judge]\nquestion = \"{question}\"\noptions = [{options}]")
        };
        let yes = "{ outcome = \"yes\", text = \"Yes.\", act = true }";
        check(&judge("{options}", yes), "`judge.question` must hold `{answer}` once");
        check(&judge("{answer} {options}", yes), "1 options of the judge's");
        check(&judge("{answer} {options}", &format!("{yes}, {yes}")), "two options of the outcome `yes`");
        let no = "{ outcome = \"no\", text = \"No.\" }";
        check(&judge("{answer} {options}", &format!("{no}, {}", no.replace("no", "x"))), "is the act");
        check("[[outcomes]]\nname = \"x\"\nany = [\"(\"]", "the pattern \"(\"");
        check("[[outcomes]]\nname = \"unclear\"", "is an outcome of its own");
        check("[[outcomes]]\nname = \"rest\"\n[[outcomes]]\nname = \"x\"\nany = [\"a\"]", "comes after");
    }
}
