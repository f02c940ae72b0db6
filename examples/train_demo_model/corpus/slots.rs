//! The slot language of the sentence pools: people, and options in brackets. Independent of emotions.
//!
//! `{N}` the main character by name (or "I"), `{S} {s} {o} {p} {P} {x}` the same as subject, object, possessive and
//! reflexive (a capital letter starts a sentence), `{F} {fs} {fo} {fp}` the friend, `{t} {d}` the topic's things,
//! `{L}` its place, `{act}` what was done, `{topic}` the topic itself, `{time} {time2} {time3}` when, `{e?}` a
//! position where an emotion's adjective may be inserted, `{e} {E} {n} {adv}` the emotion's word forms, `[a|b]` one of
//! the options.

use super::rng::Rng;
use super::topics::Topic;

/// A character of a story.
#[derive(Clone)]
pub struct Person {
    pub name: String,
    pub female: bool,
}

/// The word forms of an emotion, for stories that may name it.
#[derive(Clone, Copy)]
pub struct Words {
    pub adjective: &'static str,
    pub noun: &'static str,
    /// The probability that an `{e?}` is filled.
    pub rate: f64,
}

/// The values of the slots of one text.
pub struct Scene {
    pub hero: Person,
    pub friend: Person,
    pub first_person: bool,
    pub topic: Topic,
    /// `None`: the text does not name the emotion.
    pub words: Option<Words>,
}

const TIMES: [&str; 8] = [
    "early morning",
    "a quarter past nine",
    "noon",
    "late afternoon",
    "evening",
    "almost midnight",
    "a winter morning",
    "a summer evening",
];
const TIMES2: [&str; 6] =
    ["One morning", "Last week", "In the evening", "That afternoon", "On the second day", "Around noon"];
const TIMES3: [&str; 6] = [
    "that morning",
    "that evening",
    "after lunch",
    "at ten o'clock",
    "on the last day of May",
    "before dinner",
];

impl Scene {
    /// Fills every slot and choice of `template`.
    pub fn fill(&self, template: &str, rng: &mut Rng) -> String {
        let chosen = choose(template, rng);
        let mut out = String::with_capacity(chosen.len() + 16);
        let mut rest = chosen.as_str();
        while let Some(open) = rest.find('{') {
            out.push_str(&rest[..open]);
            let close = open + rest[open..].find('}').expect("a slot is closed");
            self.slot(&rest[open + 1..close], &mut out, rng);
            rest = &rest[close + 1..];
        }
        out.push_str(rest);
        capitalise(&out.replace("  ", " "))
    }

    fn slot(&self, slot: &str, out: &mut String, rng: &mut Rng) {
        let (he, him, his, himself) = match (self.first_person, self.hero.female) {
            (true, _) => ("I", "me", "my", "myself"),
            (false, true) => ("she", "her", "her", "herself"),
            (false, false) => ("he", "him", "his", "himself"),
        };
        let friend = self.friend.female;
        match slot {
            "N" if self.first_person => out.push('I'),
            "N" => out.push_str(&self.hero.name),
            "S" if !self.first_person && rng.chance(0.2) => out.push_str(&self.hero.name),
            "S" => out.push_str(&capitalise(he)),
            "s" => out.push_str(he),
            "o" => out.push_str(him),
            "p" => out.push_str(his),
            "P" => out.push_str(&capitalise(his)),
            "x" => out.push_str(himself),
            "F" => out.push_str(&self.friend.name),
            "fs" => out.push_str(if friend { "she" } else { "he" }),
            "fo" => out.push_str(if friend { "her" } else { "him" }),
            "fp" => out.push_str(if friend { "her" } else { "his" }),
            "t" => out.push_str(&self.topic.thing),
            "d" => out.push_str(&self.topic.other),
            "L" => out.push_str(&self.topic.place),
            "act" => out.push_str(&self.topic.act),
            "topic" => out.push_str(&self.topic.phrase),
            "time" => out.push_str(rng.pick(&TIMES)),
            "time2" => out.push_str(rng.pick(&TIMES2)),
            "time3" => out.push_str(rng.pick(&TIMES3)),
            other => self.word(other, out, rng),
        }
    }

    fn word(&self, slot: &str, out: &mut String, rng: &mut Rng) {
        let Some(words) = self.words else {
            assert_eq!(slot, "e?", "a text without words has no slot {{{slot}}}");
            return;
        };
        match slot {
            "e?" if rng.chance(words.rate) => {
                out.push_str(words.adjective);
                out.push(' ');
            }
            "e?" => {}
            "e" => out.push_str(words.adjective),
            "E" => out.push_str(&capitalise(words.adjective)),
            "n" => out.push_str(words.noun),
            _ => panic!("no such slot: {{{slot}}}"),
        }
    }
}

/// Replaces each `[a|b|c]` by one of its options, which cannot be nested.
pub fn choose(template: &str, rng: &mut Rng) -> String {
    let mut out = String::with_capacity(template.len());
    let mut rest = template;
    while let Some(open) = rest.find('[') {
        out.push_str(&rest[..open]);
        let close = open + rest[open..].find(']').expect("a choice is closed");
        let parts: Vec<&str> = rest[open + 1..close].split('|').collect();
        out.push_str(rng.pick(&parts));
        rest = &rest[close + 1..];
    }
    out.push_str(rest);
    out
}

/// The text with its first letter in upper case.
pub fn capitalise(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |c| c.to_uppercase().chain(chars).collect())
}
