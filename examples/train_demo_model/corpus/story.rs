//! Composes a story: opening, cause, shared and specific sentences, ending. Independent of chat templates and tokens.

use super::emotions::Emotion;
use super::families::family;
use super::people;
use super::pools::{
    BAD_END, GOOD_END, LIVELY, NAMING, NEUTRAL, OPENINGS, PLEASANT, STILL, TAILS, UNPLEASANT,
};
use super::rng::Rng;
use super::slots::{Scene, Words};
use super::topics::Topic;

/// A finished story and its main character.
pub struct Story {
    pub text: String,
    pub scene: Scene,
}

/// How a story is told.
#[derive(Clone, Copy)]
pub struct Telling {
    pub first_person: bool,
    /// Whether the emotion's word may occur.
    pub named: bool,
    /// Whether names are taken from those held out from training.
    pub held_out: bool,
}

/// Probabilities that a sentence of the middle expresses valence, arousal, the family, the specific emotion, or
/// nothing. Chosen so that emotions differ most in valence, then in arousal, then by family, then individually.
const MIDDLE: [f64; 5] = [0.34, 0.17, 0.24, 0.17, 0.08];

/// For stories with the word: the probability that a sentence is followed by one that names the emotion, and that a
/// sentence about the main character ends with the emotion.
const NAMING_SENTENCE: f64 = 0.2;
const TAIL: f64 = 0.2;

/// A story of eleven to fifteen sentences, about 90 to 140 tokens.
pub fn story(emotion: &Emotion, topic: &Topic, telling: Telling, rng: &mut Rng) -> Story {
    loop {
        let story = draft(emotion, topic, telling, rng);
        if telling.named || !names(&story.text, emotion.stem) {
            return story;
        }
    }
}

fn draft(emotion: &Emotion, topic: &Topic, telling: Telling, rng: &mut Rng) -> Story {
    let (hero, friend) = people::two(telling.held_out, rng);
    let words = telling.named.then_some(Words { adjective: emotion.word, noun: emotion.noun, rate: 0.35 });
    let scene = Scene { hero, friend, first_person: telling.first_person, topic: topic.clone(), words };
    let family = family(emotion.family);
    let mut text = scene.fill(rng.pick(OPENINGS), rng);
    let mut used: Vec<&str> = Vec::new();
    let n = 8 + rng.below(4);
    for i in 0..n {
        let pool = match i {
            0 => family.events,
            1 if rng.chance(0.3) => NEUTRAL,
            _ if i + 1 == n && rng.chance(0.5) => {
                if good(emotion.valence, rng) {
                    GOOD_END
                } else {
                    BAD_END
                }
            }
            _ => match rng.weighted(&MIDDLE) {
                0 if good(emotion.valence, rng) => PLEASANT,
                0 => UNPLEASANT,
                1 if good(emotion.arousal, rng) => LIVELY,
                1 => STILL,
                2 => family.signs,
                3 => emotion.own,
                _ => NEUTRAL,
            },
        };
        let mut template = rng.pick(pool);
        for _ in 0..4 {
            if !used.contains(&template) {
                break;
            }
            template = rng.pick(pool);
        }
        used.push(template);
        push(&mut text, &sentence(&scene, template, rng));
        if telling.named && rng.chance(NAMING_SENTENCE) {
            push(&mut text, &scene.fill(rng.pick(NAMING), rng));
        }
    }
    Story { text, scene }
}

/// One sentence; if the story may name its emotion, sometimes with a tail that does.
fn sentence(scene: &Scene, template: &str, rng: &mut Rng) -> String {
    if scene.words.is_some() && template.starts_with("{S}") && template.ends_with('.') && rng.chance(TAIL) {
        let tail = rng.pick(TAILS);
        return scene.fill(&format!("{}{tail}.", template.trim_end_matches('.')), rng);
    }
    scene.fill(template, rng)
}

/// Whether a shared sentence is drawn from the pleasant (or lively) pool, given valence (or arousal) in `[-1, 1]`.
fn good(value: f64, rng: &mut Rng) -> bool {
    rng.chance((1.0 + value) / 2.0)
}

/// Appends a sentence.
pub fn push(text: &mut String, sentence: &str) {
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(sentence);
}

/// Whether a word of `text` starts with `stem`, ignoring case.
pub fn names(text: &str, stem: &str) -> bool {
    text.split(|c: char| !c.is_alphabetic()).any(|word| word.to_lowercase().starts_with(stem))
}
