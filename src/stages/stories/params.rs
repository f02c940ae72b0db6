//! Configuration of texts in the experiment file: passages, writers' requests, rejection, and columns of files.

use serde::Serialize;

use crate::params::problem::{closest, quoted};
use crate::params::{
    Case, Params as _, Parts, Problem, Read, Reader, Span, Type, filled, maybe_filled, params, presets,
};

/// Fixed passages; `{emotion}` in each is replaced by the word.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Template {
    pub passages: Vec<String>,
}

params! {
    /// Fixed passages, one story for each passage and emotion. Exactly one of `set` and `passages`.
    #[when(Case::Neutral, "Fixed texts, each taken once.")]
    #[check(one_of_both)]
    pub struct TemplateKeys {
        /// Passages that ship with emoflow.
        #[unset("-")]
        #[of(Type::Preset(presets::PASSAGES))]
        #[when(
            Case::Neutral,
            unset = "`\"neutral-40\"`, without `passages`",
            of = Type::Preset(presets::NEUTRAL),
            about = "Texts that ship with emoflow."
        )]
        pub set: Vec<String>;
        /// Passages of your own; `{emotion}` in each becomes the word.
        #[unset("-")]
        #[with(passages)]
        #[when(Case::Neutral, about = "Texts of your own, instead of `set`.")]
        pub passages: Vec<String>;
    }
}

params! {
    /// What a writer is asked.
    #[check(possible)]
    pub struct Generate {
        /// What the texts are about: a preset or a list. `{topic}` in the prompt becomes one of them.
        #[of(Type::PresetOrTexts(presets::TOPICS))]
        pub topics: Vec<String> = "everyday-100";
        /// Stories for each emotion and topic.
        #[when(Case::Neutral, default = 1, about = "Texts for each topic.")]
        #[when(Case::Dialogues, default = 1, about = "Dialogues for each emotion and topic, each with a second emotion.")]
        pub per_topic: usize = 12, 1..;
        /// A reply ends here at the latest, with all that it holds.
        #[when(Case::Dialogues, default = 1000)]
        pub max_new_tokens: usize = 256, 1..;
        /// Of sampling; 0 always takes the likeliest token.
        pub temperature: f64 = 1.0, 0.0..=100.0;
        /// Samples among the likeliest tokens that together have this probability.
        #[when(
            Case::Kind("openai"),
            default = 1.0,
            about = "Samples among the likeliest tokens that together have this probability; 1 is no bound and is not sent, as some servers take either this or `temperature`."
        )]
        pub top_p: f64 = 0.95, above 0.0..=1.0;
        /// Samples among this many likeliest tokens; 0: no bound.
        pub top_k: usize = 0, 0..;
        /// What the writer is asked, with `{emotion}` and `{topic}`; put before it through its chat template where it has one.
        /// `{person}` becomes "first person" and "third person" in turn, `{count}` how many stories the request is for.
        #[with(prompt)]
        #[when(
            Case::Neutral,
            default = "Describe {topic} in a few plain sentences, without any feeling.",
            about = "What the writer is asked, with `{topic}`; also `{person}` and `{count}`, as in stories."
        )]
        #[when(
            Case::Dialogues,
            unset = "one for each kind of dialogues",
            about = "What the writer is asked, with `{emotion}`, `{other}` and `{topic}`. It must ask for turns that begin with `Person:` or `Assistant:`, and of deflection for a paragraph before them that begins with `Scenario:`; where it does, a dialogue without one is rejected."
        )]
        pub prompt: String = "Write a short story about {topic} whose main character feels {emotion}.";
        /// The system message, used verbatim; empty: none. A chat template without a system turn (Gemma 2) gets it at the
        /// beginning of the user's turn, with a blank line after it.
        #[with(system)]
        pub system: String = "";
        /// `None`: one story a reply.
        #[of(Type::Inline(Several::TABLE))]
        #[with(several)]
        pub several: Option<Several>;
        /// Which stories are rejected and written again.
        #[when(Case::Neutral, about = "Which texts are rejected and generated again.")]
        pub reject: Reject = {};
    }
}

params! {
    /// Several stories in one reply.
    pub struct Several {
        /// The largest number of texts of one emotion and topic requested in one reply; more than one needs `{count}`
        /// in the prompt, which must also ask for the separator. Missing texts are requested again.
        pub per_reply: usize = 1, 1..;
        /// With `per_reply` above 1: the line that stands between two texts of a reply. Where it does not occur, rules of
        /// Markdown and headings ("Story 2:") count.
        #[with(separator)]
        pub separator: String = "---";
    }
}

params! {
    /// What a written story must not be.
    #[when(Case::Neutral, "What a written neutral text must not be.")]
    pub struct Reject {
        /// Those that contain the emotion's word, or a word that starts with its stem.
        #[only(Case::Stories)]
        #[when(Case::Dialogues, about = "Those in which a turn contains the word of either emotion, or a word that starts with its stem.")]
        pub names_emotion: bool = true;
        /// Those with fewer tokens; at a server, whose tokenizer is not known, with fewer words.
        pub min_tokens: usize = 0, 0..;
        /// How often one text may be tried; the last try counts only if it passes.
        pub attempts: usize = 4, 1..=1000;
        /// Those that begin by declining ("I cannot write this story", "As an AI language model"); English only.
        pub refusals: bool = true;
        /// Those that end where `max_new_tokens` ends them, instead of by themselves. The last of several in a reply is always
        /// rejected then.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        pub cut: bool = false;
        /// Texts at least this similar to an earlier accepted text of the same shard (the stories generated and
        /// stored together): the Jaccard similarity of their sets of word 3-grams (0.7 is a near copy). Texts of
        /// other shards are not compared; the
        /// report counts over the whole source.
        #[unset("not checked")]
        #[serde(skip_serializing_if = "Option::is_none")]
        pub near_duplicate: Option<f64>, above 0.0..=1.0;
    }
}

params! {
    /// Which column of the file holds what.
    pub struct Columns {
        /// The column with the emotion, or with its number (see `labels`).
        #[with(maybe_filled)]
        #[only(Case::Stories)]
        pub emotion: Option<String> = "emotion";
        /// The column with the text, or with a list of texts.
        #[with(filled)]
        pub text: String = "text";
        /// The column with the topic.
        #[unset("no topics")]
        pub topic: Option<String>;
    }
}

impl Template {
    /// Reads it from its table.
    pub fn read(reader: &Reader<'_>) -> Read<Template> {
        let TemplateKeys { set, passages } = TemplateKeys::read(reader)?;
        let ships = || presets::NEUTRAL[0].entries();
        let passages = [set, passages].into_iter().find(|texts| !texts.is_empty()).unwrap_or_else(ships);
        Ok(Template { passages })
    }
}

impl Generate {
    /// The largest number of stories per reply.
    pub fn per_reply(&self) -> usize {
        self.several.as_ref().map_or(1, |several| several.per_reply)
    }
}

fn one_of_both(reader: &Reader<'_>, _: &Parts<TemplateKeys>) -> Read<()> {
    match (reader.has("set"), reader.has("passages")) {
        (true, true) => {
            let message = format!("`[{}]` has both `set` and `passages`", reader.label);
            let problem = Problem::at(reader.key_span("passages"), message);
            reader.wrong(problem.hint("keep one; two sources can be declared under two names"))
        }
        (false, false) if !reader.place.is_neutral() => {
            let message = format!("`[{}]` has neither `set` nor `passages`", reader.label);
            let problem = Problem::at(reader.span(), message);
            reader.wrong(problem.hint("add `set = \"passages-10\"` or `passages = [\"... {emotion} ...\"]`"))
        }
        _ => Ok(()),
    }
}

pub fn passages(reader: &Reader<'_>, name: &str) -> Read<Vec<String>> {
    let check = |(passage, span): (String, Span)| match unfilled(
        "a passage",
        &passage,
        &span,
        if reader.place.is_dialogues() { &["emotion", "other"] } else { &["emotion"] },
        reader,
    ) {
        Some(problem) => reader.wrong(problem),
        None => Ok(passage),
    };
    let texts: Vec<Read<String>> = reader.texts(name)?.into_iter().flatten().map(check).collect();
    texts.into_iter().collect()
}

/// The placeholders that a prompt may contain.
const FILLED: [&str; 5] = ["emotion", "topic", "person", "count", "other"];

fn prompt(reader: &Reader<'_>, name: &str) -> Read<String> {
    // Dialogues have a default prompt for each kind.
    if reader.place.is_dialogues() && !reader.has(name) {
        return Ok(String::new());
    }
    let prompt = reader.filled(name)?;
    let known = if reader.place.is_dialogues() { &FILLED[..] } else { &FILLED[..4] };
    match unfilled("the prompt", &prompt, &reader.span_of(name), known, reader) {
        Some(problem) => reader.wrong(problem),
        None => Ok(prompt),
    }
}

fn system(reader: &Reader<'_>, name: &str) -> Read<String> {
    let system: String = reader.get(name)?;
    if let Some(word) = placeholders(&system).find(|word| FILLED.contains(word)) {
        let message = format!("`{{{word}}}` is not filled in in `system`");
        return reader.wrong(Problem::at(reader.span_of(name), message).hint("move it to `prompt`"));
    }
    Ok(system)
}

/// Several stories per reply; `None`: one.
fn several(reader: &Reader<'_>, _: &str) -> Read<Option<Several>> {
    Several::read(reader).map(|several| Some(several).filter(|several| several.per_reply > 1))
}

fn separator(reader: &Reader<'_>, name: &str) -> Read<String> {
    let separator = reader.filled(name)?;
    if separator.trim().lines().count() == 1 {
        return Ok(separator.trim().to_string());
    }
    let message = format!("`separator` is {}, which is no line of text", quoted(&separator));
    let problem = Problem::at(reader.span_of(name), message);
    reader.wrong(problem.hint("it stands on one line of its own between two texts, such as \"---\""))
}

/// Reports requirements that no writer could meet.
fn possible(reader: &Reader<'_>, parts: &Parts<Generate>) -> Read<()> {
    let mut checked = Ok(());
    let mut wrong = |span: Span, message: String, hint: &str| {
        checked = reader.wrong(Problem::at(span, message).hint(hint));
    };
    if let (Ok(reject), Ok(most)) = (&parts.reject, parts.max_new_tokens)
        && reject.min_tokens > most
    {
        let message = format!("no text has {} tokens when `max_new_tokens` is {most}", reject.min_tokens);
        let place = reader.place_of(&["reject", "min_tokens"]);
        wrong(place, message, "lower `min_tokens` or raise `max_new_tokens`");
    }
    if let Ok(Some(Several { per_reply, .. })) = &parts.several {
        if let Ok(per_topic) = parts.per_topic
            && *per_reply > per_topic
        {
            let message = format!("a reply cannot hold {per_reply} texts when `per_topic` is {per_topic}");
            let hint = "lower `per_reply` or raise `per_topic`: a reply is about one emotion and topic";
            wrong(reader.span_of("per_reply"), message, hint);
        } else if let Ok(prompt) = &parts.prompt
            && placeholders(prompt).all(|name| name != "count")
        {
            let message = format!("`per_reply` = {per_reply}, but the prompt does not contain `{{count}}`");
            let hint = "ask for \"{count} stories\" and for the separator, such as \"put --- on a line of its own \
                        between two stories\"";
            wrong(reader.span_of("prompt"), message, hint);
        }
    }
    checked
}

/// The problem with a text's `{placeholders}`, if any: one is unknown, or `{emotion}` is missing, or `{emotion}` is
/// present in neutral text.
fn unfilled(what: &str, text: &str, span: &Span, known: &[&str], reader: &Reader<'_>) -> Option<Problem> {
    let names: Vec<&str> = placeholders(text).collect();
    let neutral = reader.place.is_neutral();
    if neutral && names.contains(&"emotion") {
        let problem = Problem::at(span.clone(), format!("{what} of neutral text contains `{{emotion}}`"));
        return Some(problem.hint("neutral text is the same for all emotions: remove the placeholder"));
    }
    let known: Vec<&str> = known.iter().copied().filter(|name| !neutral || *name != "emotion").collect();
    if let Some(name) = names.iter().find(|name| !known.is_empty() && !known.contains(name)) {
        let message = format!("{what} contains {}, which nothing fills in", quoted(&format!("{{{name}}}")));
        let hint = match closest(name, known.iter().copied()) {
            Some(meant) => format!("did you mean `{{{meant}}}`?"),
            None => {
                let known: Vec<String> = known.iter().map(|name| format!("{{{name}}}")).collect();
                format!("placeholders: {}", known.join(", "))
            }
        };
        return Some(Problem::at(span.clone(), message).hint(hint));
    }
    if !neutral && !names.contains(&"emotion") {
        let problem = Problem::at(span.clone(), format!("{what} does not contain `{{emotion}}`"));
        return Some(problem.hint("without it, the text is the same for all emotions"));
    }
    if reader.place.is_dialogues() && !names.contains(&"other") {
        let problem = Problem::at(span.clone(), format!("{what} does not contain `{{other}}`"));
        return Some(
            problem.hint("it becomes the second emotion: the assistant's, or the one that is shown"),
        );
    }
    None
}

/// The names in braces: `{emotion}`.
fn placeholders(text: &str) -> impl Iterator<Item = &str> {
    let inner = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(inner, _)| inner);
    inner.filter(|inner| !inner.is_empty() && inner.chars().all(|c| c.is_ascii_alphanumeric() || c == '_'))
}
