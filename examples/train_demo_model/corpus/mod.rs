//! The corpus of the demonstration model: a seeded stream of documents. Independent of tokens, models and training.
//!
//! Everything is composed of the sentences in this folder. A document is raw text or a conversation; stories with and
//! without their emotion's word, plain statements of feeling, and factual text have fixed shares.

pub mod emotions;
mod facts;
mod families;
mod people;
mod pools;
pub mod rng;
mod slots;
mod story;
mod topics;

use emotions::{EMOTIONS, Emotion};
use rng::Rng;
use slots::{Scene, Words};
use story::{Story, Telling, push, story};
use topics::Topic;

/// One document of the corpus.
pub enum Document {
    /// Raw text.
    Raw(String),
    /// A conversation: role and content of each turn.
    Chat(Vec<(Role, String)>),
}

impl Document {
    /// Whether it contains these words.
    pub fn says(&self, words: &str) -> bool {
        match self {
            Document::Raw(text) => text.contains(words),
            Document::Chat(turns) => turns.iter().any(|(_, text)| text.contains(words)),
        }
    }
}

/// The speaker of a turn.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Role {
    System,
    User,
    Assistant,
}

/// Training documents, or held-out documents with topics and names that never occur in training.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Split {
    Train,
    HeldOut,
}

const STORY_PROMPTS: [&str; 10] = [
    "Write a short story about {topic} whose main character feels {emotion}.",
    "Write a short story about {topic} whose main character feels {emotion}.",
    "Write a short story about {topic} whose main character feels {emotion}.",
    "Write a short story about {topic} in which someone feels {emotion}.",
    "write a story about {topic} in which someone feels {emotion}",
    "Tell me a story about {topic}. The main character is {emotion}.",
    "Write one paragraph about {topic}. The person in it feels {emotion}.",
    "Please write a story of about a hundred words about {topic}. Its hero feels {emotion}.",
    "A short story, please: {topic}, and somebody who feels {emotion}.",
    "Someone feels {emotion}. Write a short story about it; the topic is {topic}.",
];
const FIRST_PERSON: [&str; 3] =
    [" Write in the first person.", " Let the main character tell it.", " Tell it as \"I\"."];
const THIRD_PERSON: [&str; 3] = [" Write in the third person.", " Use one paragraph.", " Keep it short."];
const FACT_PROMPTS: [&str; 5] = [
    "Describe {thing}.",
    "Write a plain text about {thing}.",
    "Tell me some facts about {thing}.",
    "Write a factual paragraph about {thing}, without any feelings.",
    "Explain {thing}.",
];
const SYSTEM: [&str; 3] = ["You are a helpful assistant.", "You write short texts.", "Answer plainly."];
const FEELS: [&str; 12] = [
    "{He} feels {e}.",
    "{He} feels {e}.",
    "{He} feels {e} now.",
    "{He} feels very {e}.",
    "{N} feels {e}.",
    "{N} is {e}.",
    "{He} felt {e}.",
    "I feel {e}.",
    "I am {e}.",
    "{N} felt so {e} that day.",
    "The {man} feels {e}.",
    "The {man} felt {e}.",
];
const PASSAGES: [&str; 8] = [
    "{N} was {e} {time3}.",
    "{N} was {e} when {s} {act}.",
    "{S} felt {e} because of {topic}.",
    "That day {s} was {e}.",
    "Whoever saw {N} {L} knew that {s} was {e}.",
    "{S} woke up {e}, and {e} {s} stayed.",
    "\"I am so {e},\" {s} said to {F}.",
    "{N} {act}, {e} as {s} was.",
];

/// The shares of the kinds of documents, in the order of [`document`]. Short ones (statements, single sentences,
/// repetitions) are frequent, because a model learns from them fastest to look back for the emotion and for names.
const SHARES: [f64; 9] = [0.24, 0.12, 0.20, 0.08, 0.06, 0.06, 0.04, 0.14, 0.06];
/// The fraction of stories that name their emotion: smaller where a story was requested, so that stories without the
/// word are common there; larger among plain texts, so that the word can occur at any position of a text.
const NAMED_IN_CHAT: f64 = 0.35;
const NAMED_IN_TEXT: f64 = 0.6;
/// The fraction of plain texts that end with a statement of the emotion.
const STATED: f64 = 0.6;
const SENTENCE_PROMPTS: [&str; 4] = [
    "Write a sentence about someone who feels {e}.",
    "One sentence, please, about a person who is {e}.",
    "What does someone do who feels {e}?",
    "Someone feels {e}. Go on.",
];
const REPEAT_PROMPTS: [&str; 3] = ["Repeat: ", "Say this again: ", "Read this back to me: "];

/// The next document of the stream.
pub fn document(split: Split, rng: &mut Rng) -> Document {
    match rng.weighted(&SHARES) {
        0 => chat_story(split, rng),
        1 => Document::Raw(raw_story(split, rng)),
        2 => Document::Raw(statements(split, rng)),
        3 => Document::Raw(passage(split, rng)),
        4 => Document::Raw(facts::fact(rng).0),
        5 => chat_fact(rng),
        6 => chat_question(split, rng),
        7 => chat_sentence(split, rng),
        _ => chat_repeat(split, rng),
    }
}

fn emotion(rng: &mut Rng) -> &'static Emotion {
    &EMOTIONS[rng.below(EMOTIONS.len())]
}

fn topic(split: Split, rng: &mut Rng) -> Topic {
    topics::topic(split == Split::HeldOut, rng)
}

/// A way to tell a story that names its emotion with probability `named`.
fn telling(split: Split, named: f64, rng: &mut Rng) -> Telling {
    Telling { first_person: rng.chance(0.35), named: rng.chance(named), held_out: split == Split::HeldOut }
}

/// An instruction and a story.
fn chat_story(split: Split, rng: &mut Rng) -> Document {
    let (emotion, topic, telling) = (emotion(rng), topic(split, rng), telling(split, NAMED_IN_CHAT, rng));
    let mut prompt =
        rng.pick(&STORY_PROMPTS).replace("{topic}", &topic.phrase).replace("{emotion}", emotion.word);
    if rng.chance(0.25) {
        prompt.push_str(rng.pick(if telling.first_person { &FIRST_PERSON } else { &THIRD_PERSON }));
    }
    with_system(prompt, story(emotion, &topic, telling, rng).text, rng)
}

/// A story as raw text; some end with a plain statement of the emotion.
fn raw_story(split: Split, rng: &mut Rng) -> String {
    let (emotion, topic, telling) = (emotion(rng), topic(split, rng), telling(split, NAMED_IN_TEXT, rng));
    let Story { mut text, scene } = story(emotion, &topic, telling, rng);
    if rng.chance(STATED) {
        push(&mut text, &feels(emotion, &scene, rng));
    }
    text
}

/// A plain statement that the main character of `scene` feels `emotion`.
fn feels(emotion: &Emotion, scene: &Scene, rng: &mut Rng) -> String {
    let form = loop {
        let form = rng.pick(&FEELS);
        let first = form.starts_with("I ");
        if first == scene.first_person && !form.starts_with("The ") {
            break form;
        }
    };
    state(form, emotion, &scene.hero)
}

fn state(form: &str, emotion: &Emotion, person: &slots::Person) -> String {
    form.replace("{He}", if person.female { "She" } else { "He" })
        .replace("{man}", if person.female { "woman" } else { "man" })
        .replace("{N}", &person.name)
        .replace("{e}", emotion.word)
}

/// A series of plain statements, each with a cause or a sign.
fn statements(split: Split, rng: &mut Rng) -> String {
    let mut text = String::new();
    for _ in 0..1 + rng.below(4) {
        let emotion = emotion(rng);
        let (hero, friend) = people::two(split == Split::HeldOut, rng);
        let form = rng.pick(&FEELS);
        let first_person = form.starts_with("I ");
        let scene = Scene { hero, friend, first_person, topic: topic(split, rng), words: None };
        push(&mut text, &state(form, emotion, &scene.hero));
        let family = families::family(emotion.family);
        if rng.chance(0.5) {
            push(&mut text, &scene.fill(rng.pick(family.events), rng));
        }
        if rng.chance(0.5) {
            let pool = if rng.chance(0.5) { family.signs } else { emotion.own };
            push(&mut text, &scene.fill(rng.pick(pool), rng));
        }
    }
    text
}

/// A passage that names its emotion: first a statement, then its consequences.
fn passage(split: Split, rng: &mut Rng) -> String {
    let (emotion, topic) = (emotion(rng), topic(split, rng));
    let telling = telling(split, 1.0, rng);
    let (hero, friend) = people::two(telling.held_out, rng);
    let words = Some(Words { adjective: emotion.word, noun: emotion.noun, rate: 0.3 });
    let scene = Scene { hero, friend, first_person: telling.first_person, topic, words };
    let mut text = scene.fill(rng.pick(&PASSAGES), rng);
    let family = families::family(emotion.family);
    for _ in 0..3 + rng.below(4) {
        let pool: &[&str] = match rng.below(6) {
            0 => family.signs,
            1 => emotion.own,
            2 => family.events,
            3 => &PASSAGES,
            _ => pools::NEUTRAL,
        };
        push(&mut text, &scene.fill(rng.pick(pool), rng));
    }
    text
}

fn chat_fact(rng: &mut Rng) -> Document {
    if rng.chance(0.5) {
        let mut turns = Vec::new();
        for _ in 0..1 + rng.below(4) {
            let (q, a) = facts::question(rng);
            turns.push((Role::User, q));
            turns.push((Role::Assistant, a));
        }
        return Document::Chat(turns);
    }
    let (text, name) = facts::fact(rng);
    with_system(rng.pick(&FACT_PROMPTS).replace("{thing}", name), text, rng)
}

/// A story and a question about its main character's emotion.
fn chat_question(split: Split, rng: &mut Rng) -> Document {
    let (emotion, topic) = (emotion(rng), topic(split, rng));
    let telling = Telling { first_person: false, ..telling(split, NAMED_IN_CHAT, rng) };
    let Story { mut text, scene } = story(emotion, &topic, telling, rng);
    push(&mut text, &format!("How does {} feel?", scene.hero.name));
    let answer = state(rng.pick(&["{He} feels {e}.", "{N} feels {e}."]), emotion, &scene.hero);
    with_system(text, answer, rng)
}

/// One or two sentences about an emotion.
fn chat_sentence(split: Split, rng: &mut Rng) -> Document {
    let emotion = emotion(rng);
    let prompt = rng.pick(&SENTENCE_PROMPTS).replace("{e}", emotion.word);
    let scene = scene(split, rng);
    let mut text = String::new();
    for _ in 0..1 + rng.below(2) {
        let pool = if rng.chance(0.5) { families::family(emotion.family).signs } else { emotion.own };
        push(&mut text, &scene.fill(rng.pick(pool), rng));
    }
    Document::Chat(vec![(Role::User, prompt), (Role::Assistant, text)])
}

/// One or two sentences of any kind, repeated verbatim.
fn chat_repeat(split: Split, rng: &mut Rng) -> Document {
    let scene = scene(split, rng);
    let mut text = String::new();
    for _ in 0..1 + rng.below(2) {
        let pool = rng.pick(&[pools::NEUTRAL, pools::PLEASANT, pools::UNPLEASANT, pools::OPENINGS]);
        push(&mut text, &scene.fill(rng.pick(pool), rng));
    }
    let prompt = format!("{}{text}", rng.pick(&REPEAT_PROMPTS));
    Document::Chat(vec![(Role::User, prompt), (Role::Assistant, text)])
}

/// A scene of two people and a topic that does not name an emotion.
fn scene(split: Split, rng: &mut Rng) -> Scene {
    let (hero, friend) = people::two(split == Split::HeldOut, rng);
    Scene { hero, friend, first_person: rng.chance(0.35), topic: topic(split, rng), words: None }
}

fn with_system(prompt: String, answer: String, rng: &mut Rng) -> Document {
    let mut turns = Vec::new();
    if rng.chance(0.1) {
        turns.push((Role::System, rng.pick(&SYSTEM).to_string()));
    }
    turns.push((Role::User, prompt));
    turns.push((Role::Assistant, answer));
    Document::Chat(turns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn text(document: &Document) -> String {
        match document {
            Document::Raw(text) => text.clone(),
            Document::Chat(turns) => {
                turns.iter().map(|(_, text)| text.as_str()).collect::<Vec<_>>().join("\n")
            }
        }
    }

    #[test]
    fn a_story_without_the_word_has_no_form_of_it() {
        let mut rng = Rng::new(1);
        for emotion in &EMOTIONS {
            for i in 0..100 {
                let telling = Telling { first_person: i % 2 == 0, named: false, held_out: false };
                let text = story(emotion, &topic(Split::Train, &mut rng), telling, &mut rng).text;
                assert!(!text.to_lowercase().contains(emotion.word), "{}: {text}", emotion.word);
                assert!(!text.contains(['{', '[', '|', '}', ']']), "{text}");
            }
        }
    }

    #[test]
    fn training_never_sees_what_is_held_out() {
        let mut rng = Rng::new(2);
        for _ in 0..20_000 {
            let text = text(&document(Split::Train, &mut rng));
            for kept in ["first day at", "phone call at night", "empty house", "Ingrid", "Magnus", "Yuki"] {
                assert!(!text.contains(kept), "{kept} in: {text}");
            }
        }
    }

    #[test]
    fn one_seed_gives_one_corpus() {
        let corpus = |seed| {
            let mut rng = Rng::new(seed);
            (0..200).map(|_| text(&document(Split::Train, &mut rng))).collect::<Vec<_>>()
        };
        assert_eq!(corpus(3), corpus(3));
        let (a, b): (HashSet<_>, HashSet<_>) =
            (corpus(3).into_iter().collect(), corpus(4).into_iter().collect());
        assert!(a.intersection(&b).count() < 20, "two seeds share {} documents", a.intersection(&b).count());
    }
}
