//! Removes a model's reasoning from its replies, whether between marks or in plain words. Independent of stories.

/// The marks of reasoning, in lower case: opening and closing. DeepSeek-R1 and Qwen3, Magistral, Cohere, Kimi,
/// Seed-OSS, EXAONE, Gemma 4, MedGemma, and marks that prompts ask for.
const MARKS: [(&str, &str); 19] = [
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<reflection>", "</reflection>"),
    ("<analysis>", "</analysis>"),
    ("<scratchpad>", "</scratchpad>"),
    ("<planning>", "</planning>"),
    ("<plan>", "</plan>"),
    ("<brainstorm>", "</brainstorm>"),
    ("<inner_monologue>", "</inner_monologue>"),
    ("<seed:think>", "</seed:think>"),
    ("[think]", "[/think]"),
    ("<|think|>", "<|/think|>"),
    ("<|start_thinking|>", "<|end_thinking|>"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),
    ("\u{25c1}think\u{25b7}", "\u{25c1}/think\u{25b7}"),
    ("<|channel>thought", "<channel|>"),
    ("<unused94>thought", "<unused95>"),
];

/// The marks of the answer after the reasoning, as prompts that ask for reasoning request them.
const ANSWERS: [(&str, &str); 6] = [
    ("<answer>", "</answer>"),
    ("<final_answer>", "</final_answer>"),
    ("<response>", "</response>"),
    ("<output>", "</output>"),
    ("<story>", "</story>"),
    ("<|begin_of_solution|>", "<|end_of_solution|>"),
];

/// The marks of gpt-oss, whose answers have a channel of their own.
const CHANNEL: &str = "<|channel|>";
const MESSAGE: &str = "<|message|>";
const ENDS: [&str; 3] = ["<|end|>", "<|return|>", "<|call|>"];

/// The turn ends of chat templates. They are special tokens, which a server with another template returns as text,
/// followed by whatever the model generated next: ChatML, Llama 3, Gemma, Gemma 4, Phi, Cohere, DeepSeek, GPT-2 and
/// its derivatives, Llama 2.
const TURN_ENDS: [&str; 10] = [
    "<|im_end|>",
    "<|eot_id|>",
    "<end_of_turn>",
    "<turn|>",
    "<|end|>",
    "<|END_OF_TURN_TOKEN|>",
    "<\u{ff5c}end\u{2581}of\u{2581}sentence\u{ff5c}>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "</s>",
];

/// Tokens that are needed to recognise reasoning: they are kept where other special tokens are dropped.
pub fn is_mark(token: &str) -> bool {
    let token = token.to_ascii_lowercase();
    let of_marks = |(open, close): &(&str, &str)| open.starts_with(&token) || *close == token;
    let of_channels = [CHANNEL, MESSAGE].contains(&token.as_str()) || ENDS.contains(&token.as_str());
    !token.is_empty() && (MARKS.iter().any(of_marks) || of_channels)
}

/// The opening mark at the end of a request, if there is one: the reply then begins inside the reasoning.
pub fn opened(request: &str) -> Option<&'static str> {
    let request = request.trim_end().to_ascii_lowercase();
    MARKS.iter().map(|(open, _)| *open).find(|open| request.ends_with(open))
}

/// A reply without the reasoning before it and without what follows its turn; `None` if it is reasoning only. The
/// opening mark may be missing, since some templates write it themselves.
pub fn answer(reply: &str) -> Option<&str> {
    let mut text = reply.trim();
    if let Some(at) = text.rfind("<|channel|>final") {
        let rest = &text[at..];
        text = rest.find(MESSAGE).map_or("", |at| rest[at + MESSAGE.len()..].trim());
        let end = ENDS.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
        text = text[..end].trim();
    } else if text.starts_with(CHANNEL) {
        return None;
    }
    for (open, close) in MARKS {
        // ASCII lower case preserves the length.
        if let Some(at) = text.to_ascii_lowercase().rfind(close) {
            text = text[at + close.len()..].trim();
        }
        match text.to_ascii_lowercase().find(open) {
            Some(0) => return None,
            Some(at) => text = text[..at].trim(),
            None => {}
        }
    }
    for (open, close) in ANSWERS {
        if text.to_ascii_lowercase().starts_with(open) {
            text = text[open.len()..].trim();
            let end = text.to_ascii_lowercase().rfind(close).unwrap_or(text.len());
            text = text[..end].trim();
        }
    }
    let end = TURN_ENDS.iter().filter_map(|end| text.find(end)).min().unwrap_or(text.len());
    let text = text[..end].trim();
    (!is_plain(text)).then_some(text)
}

/// Words without meaning with which reasoning may begin.
const FILLERS: [&str; 13] =
    ["okay", "ok", "alright", "hmm", "so", "well", "first", "now", "right", "got", "it", "sure", "wait"];
/// Phrases about a request, or about writing.
const REQUESTS: [&str; 14] = [
    "the user wants",
    "the user is asking",
    "the user asked",
    "the user asks",
    "the user would like",
    "the user needs",
    "the user has asked",
    "the user requested",
    "the user gave",
    "the task is to",
    "my task is to",
    "the prompt asks",
    "the request is",
    "thinking process",
];
const PLANS: [&str; 14] = [
    "i need to write",
    "i need to create",
    "i need to come up with",
    "i should write",
    "i have to write",
    "i must write",
    "we need to write",
    "we need to produce",
    "we should write",
    "we have to write",
    "we are asked to write",
    "i'm asked to write",
    "let me write",
    "let's write",
];
const PLANNED: [&str; 7] = ["story", "stories", "scene", "passage", "text", "texts", "narrative"];
/// The number of words that are examined after a plan.
const NEAR: usize = 8;

/// Whether a text begins like reasoning in plain words: "Okay, the user wants a short story", "I need to write a
/// story". English only; a story that begins like this is mistaken for reasoning.
fn is_plain(text: &str) -> bool {
    let beginning: String =
        text.chars().take(200).collect::<String>().to_lowercase().replace('\u{2019}', "'");
    if beginning.starts_with(['"', '\'', '\u{201c}']) {
        return false;
    }
    let words =
        beginning.split(|c: char| !(c.is_alphanumeric() || c == '\'')).filter(|word| !word.is_empty());
    let words: Vec<&str> = words.skip_while(|word| FILLERS.contains(word)).collect();
    let after = |phrase: &str| {
        let phrase: Vec<&str> = phrase.split(' ').collect();
        words.starts_with(&phrase).then(|| &words[phrase.len()..])
    };
    let planned = |rest: &[&str]| rest.iter().take(NEAR).any(|word| PLANNED.contains(word));
    REQUESTS.iter().any(|phrase| after(phrase).is_some())
        || PLANS.iter().any(|phrase| after(phrase).is_some_and(planned))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thinking_is_not_the_answer_however_it_is_marked() {
        let check = |reply: &str, want: Option<&str>| assert_eq!(answer(reply), want, "{reply:?}");
        check(" It rained.\n", Some("It rained."));
        check("I think <b>it</b> rained.", Some("I think <b>it</b> rained."));
        for (open, close) in MARKS {
            check(&format!("{open}Rain?\n---\n{close}\n\nIt rained."), Some("It rained."));
            check(&format!("{open}{close}It rained."), Some("It rained."));
            check(&format!("Rain, perhaps.{close}\nIt rained."), Some("It rained."));
            check(&format!("{open}Rain, or snow, or"), None);
            check(&format!("{open}Rain.{close}It rained.\n{open}Or"), Some("It rained."));
            assert_eq!(opened(&format!("Tell.\n{open}\n")), Some(open));
        }
        for (open, close) in ANSWERS {
            check(&format!("<analysis>Rain?</analysis>\n{open}\nIt rained.\n{close}"), Some("It rained."));
            check(&format!("{open}It rained. And"), Some("It rained. And"));
            check(&format!("It rained {open}."), Some(&format!("It rained {open}.")));
        }
        check("<THINK>Rain?</Think>It rained.", Some("It rained."));
        check(
            "<|channel|>analysis<|message|>Rain?<|end|><|start|>assistant<|channel|>final<|message|>It rained.<|return|>",
            Some("It rained."),
        );
        check("<|channel|>analysis<|message|>Rain, or", None);
        for end in TURN_ENDS {
            check(&format!("It rained.{end}\n"), Some("It rained."));
            check(&format!("<think>Rain?{end}</think>It rained.{end}user\nMore."), Some("It rained."));
        }
        assert_eq!(opened("Tell me of <think> tags."), None);
    }

    #[test]
    fn thoughts_in_plain_words_are_told_by_their_beginning() {
        for thought in [
            "Okay, the user wants a short story with a character who feels a certain way. Let me think",
            "The user is asking for a story.",
            "Alright, so I need to write a short story about a lost key.",
            "We need to produce a story of 100 words.",
            "Let\u{2019}s write a scene in a kitchen.",
        ] {
            assert_eq!(answer(thought), None, "{thought}");
        }
        for story in [
            "Okay, he thought, and put the key back.",
            "I need to write to my mother, she said.",
            "\"The user wants a new password,\" said Ines.",
            "So it went on until noon.",
            "",
        ] {
            assert_eq!(answer(story), Some(story), "{story}");
        }
    }

    #[test]
    fn marks_are_known_as_tokens() {
        for token in ["[THINK]", "<|channel|>", "</think>", "<|END_THINKING|>", "<unused94>", "<|channel>"] {
            assert!(is_mark(token), "{token}");
        }
        for token in ["<|im_end|>", "</s>", "<pad>", ""] {
            assert!(!is_mark(token), "{token}");
        }
    }
}
