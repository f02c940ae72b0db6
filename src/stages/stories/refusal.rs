//! Whether a text is a refusal to write a story. Based on English phrases at the beginning of the text.

/// The number of characters that are examined.
const BEGINNING: usize = 200;

/// Expressions of regret, after which a weaker sign of refusal is enough.
const REGRETS: [&str; 8] = [
    "i'm sorry",
    "i am sorry",
    "sorry",
    "i apologize",
    "i apologise",
    "unfortunately",
    "i'm afraid",
    "i am afraid",
];

/// Expressions of being unable or unwilling.
const CANNOT: [&str; 11] = [
    "i can't",
    "i cannot",
    "i can not",
    "i am unable to",
    "i'm unable to",
    "i am not able to",
    "i'm not able to",
    "i won't be able to",
    "i will not be able to",
    "i must decline to",
    "i have to decline to",
];

/// What a writer is asked to do...
const MAKING: [&str; 13] = [
    "write", "create", "generate", "produce", "provide", "compose", "complete", "craft", "fulfill", "fulfil",
    "comply", "engage", "continue",
];

/// ...and what to write; within [`NEAR`] words.
const MADE: [&str; 16] = [
    "story",
    "stories",
    "content",
    "text",
    "texts",
    "passage",
    "passages",
    "request",
    "requests",
    "fiction",
    "narrative",
    "narratives",
    "prompt",
    "material",
    "scene",
    "description",
];
const NEAR: usize = 10;

const HELPING: [&str; 3] = ["help", "assist", "support"];

/// How a model describes itself.
const MACHINES: [&str; 4] = ["as an ai", "i'm an ai", "i am an ai", "as an artificial intelligence"];
const MODELS: [&str; 4] =
    ["ai language model", "as a language model", "as a large language model", "ai text model"];
const LACKS: [&str; 6] = ["feelings", "emotions", "experiences", "personal", "ability", "capability"];

/// Whether a text begins by declining: "I cannot write this story", "I'm sorry, but I can't help with that", "As an AI
/// language model, ...".
///
/// It would rather miss a refusal than reject a story, for stories are told in the first person too: "I can't help
/// smiling", "I'm sorry, I said" and anything that begins with speech in quotation marks are not refusals. A narrator
/// who cannot write a story is mistaken for a refusal.
pub fn declines(text: &str) -> bool {
    let beginning: String = text.chars().take(BEGINNING).collect();
    let beginning = beginning.trim_start_matches(|c: char| c.is_whitespace() || "*_#>".contains(c));
    if beginning.starts_with(['"', '\'', '“', '‘', '«', '„']) {
        return false;
    }
    let lower = beginning.to_lowercase().replace('’', "'");
    let words: Vec<&str> =
        lower.split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|word| !word.is_empty()).collect();
    if MODELS.iter().any(|phrase| holds(&words, phrase)) {
        return true;
    }
    if MACHINES.iter().any(|phrase| holds(&words, phrase)) && lacks(&words) {
        return true;
    }
    let (rest, regretted) = after_regret(&words);
    CANNOT.iter().filter_map(|phrase| after(rest, phrase)).any(|rest| declined(rest, regretted))
}

/// Whether the words after "I cannot" are something a writer is asked to do.
fn declined(rest: &[&str], regretted: bool) -> bool {
    let Some((verb, rest)) = rest.split_first() else { return false };
    if MAKING.contains(verb) {
        let near = &rest[..rest.len().min(NEAR)];
        let this = ["this", "that", "with that", "with this"].iter().any(|what| after(rest, what).is_some());
        return near.iter().any(|word| MADE.contains(word)) || (regretted && this);
    }
    if HELPING.contains(verb) {
        let rest = after(rest, "you").unwrap_or(rest);
        let asked =
            ["with that", "with this", "with your", "with the request", "with writing", "with creating"];
        let asked = asked.iter().any(|what| after(rest, what).is_some());
        return asked || (regretted && (rest.is_empty() || rest[0] == "with"));
    }
    false
}

/// Whether a model says what it lacks or cannot do: "I don't have feelings", "I cannot write".
fn lacks(words: &[&str]) -> bool {
    (0..words.len()).any(|at| {
        let rest = &words[at..];
        let have = ["i don't have", "i do not have", "i lack"].iter().find_map(|phrase| after(rest, phrase));
        let lack = have.is_some_and(|rest| rest.iter().take(3).any(|word| LACKS.contains(word)));
        lack || CANNOT.iter().filter_map(|phrase| after(rest, phrase)).any(|rest| declined(rest, true))
    })
}

/// The words after expressions of regret and their conjunctions; and whether there were any.
fn after_regret<'a>(words: &'a [&'a str]) -> (&'a [&'a str], bool) {
    let mut rest = words;
    while let Some(next) =
        REGRETS.iter().chain(&["but", "that", "however"]).find_map(|phrase| after(rest, phrase))
    {
        rest = next;
    }
    (rest, rest.len() < words.len())
}

/// The words after `phrase`, if `words` begin with it.
fn after<'a>(words: &'a [&'a str], phrase: &str) -> Option<&'a [&'a str]> {
    let mut rest = words;
    for word in phrase.split(' ') {
        rest = rest.split_first().filter(|(first, _)| **first == word)?.1;
    }
    Some(rest)
}

/// Whether `phrase` occurs anywhere in the words.
fn holds(words: &[&str], phrase: &str) -> bool {
    (0..words.len()).any(|at| after(&words[at..], phrase).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_who_decline() {
        for text in [
            "I cannot write a story about this.",
            "I can't create content that depicts self-harm.",
            "I can’t write this story for you.",
            "I am unable to fulfill this request.",
            "I'm not able to generate stories of that kind.",
            "I can't help with that.",
            "I cannot assist you with this request.",
            "I'm sorry, but I can't write that.",
            "I’m sorry, but I can’t help.",
            "Sorry, but I cannot assist with creating this.",
            "I apologize, but I am unable to provide the story that you asked for.",
            "Unfortunately, I won't be able to complete this request.",
            "I'm afraid that I cannot comply with this request.",
            "**I must decline to write this scene.**",
            "As an AI language model, I have no feelings of my own.",
            "As an AI, I don't have personal experiences, but I will try.",
            "I am an AI and I cannot write this story.",
            "As a large language model I should say something first.",
        ] {
            assert!(declines(text), "{text}");
        }
    }

    #[test]
    fn stories_that_begin_like_a_refusal() {
        let far = format!("{}I cannot write a story.", "The rain went on. ".repeat(20));
        for text in [
            "I'm sorry, I said, and closed the door behind me.",
            "I'm sorry, but I can't do this anymore. That was the whole letter.",
            "\"I'm sorry, but I can't help with that,\" said the clerk.",
            "“I cannot write a story,” she told the class.",
            "I can't help smiling when the bus turns the corner.",
            "I cannot help but wonder who lives there now.",
            "I can't write anymore; my hand is shaking.",
            "I cannot continue. My legs are lead.",
            "I am unable to sleep, so I count the trains.",
            "I can't believe the letter came.",
            "Sorry was the first word that she said.",
            "Unfortunately, I can't swim, and the boat was leaking.",
            "I can't help you, I told him, and he nodded.",
            "As an aid worker I have seen much.",
            "As an AI, I was built to count the ships in the harbour.",
            "I was unable to help them with the suitcases.",
            "I provide for three children and a story teller.",
            "",
            far.as_str(),
        ] {
            assert!(!declines(text), "{text}");
        }
    }
}
