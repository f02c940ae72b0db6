//! Sentences shared by many emotions: pleasant and unpleasant, lively and calm, and neutral ones. Independent of
//! particular emotions. All are in the slot language of `slots.rs`.

/// Openings: people, place, topic.
pub const OPENINGS: &[&str] = &[
    "{N} {act}.",
    "On [Monday|Tuesday|Friday|Sunday] {N} {act}.",
    "It was {time} when {N} {act}.",
    "{N} {act} with {F}.",
    "{time2}, {N} was {L}.",
    "{N} and {F} were {L} {time3}.",
    "It was {time}, and {N} was {L} because of {topic}.",
    "It all began with {topic}.  {N} {act}.",
    "Nobody {L} would forget {topic}.  {N} {act} {time3}.",
    "{N} was [twelve|thirty|forty|sixty] years old and had [come|hurried] here for {topic}.  It was {time}.",
    "The {t} was {L}.  {N} {act} {time3}.",
    "That year there was {topic}, and {N} {act}.",
];

/// Plain sentences that reveal nothing about anyone's feelings.
pub const NEUTRAL: &[&str] = &[
    "The {t} lay {L}.",
    "{F} stood beside the {d}.",
    "{S} put the {d} down and picked up the {t}.",
    "There was a {t} on the [left|right], and a {d} beside it.",
    "{F} came in and [took off {fp} coat|put down a bag].",
    "{S} looked at the {t}.",
    "A clock struck [three|four|nine|ten].",
    "{F} asked about the {t}.",
    "{S} told {F} about {topic}.",
    "It was all about {topic}.",
];

/// Weather, light, food, other people, luck: all going well.
pub const PLEASANT: &[&str] = &[
    "The sun [came out|shone through the window|stood warm over the roofs].",
    "A [warm|mild|sweet] wind blew [from the hills|through the open window].",
    "There was a smell of fresh bread and [honey|coffee|roses].",
    "Birds sang [in the trees|outside|above {o}].",
    "The light was [golden|bright and clear], and the air was sweet.",
    "{F} smiled at {o}.",
    "{F} was kind and [made room for {o}|gave {o} the better half].",
    "Children played and laughed nearby.",
    "{F} gave {o} a [ripe pear|warm cup of cocoa|piece of sweet cake].",
    "The [soup|tea|bread] was warm and good.",
    "Everything fitted, and everything went well.",
    "The {t} shone as if it were new.",
    "The {t} was in good order, clean and bright.",
    "There were flowers [on the table|by the door|on the sill], fresh and bright.",
    "\"How nice that you are here,\" said {F}.",
    "\"Well done, that is lovely,\" said {F}.",
    "{F} nodded warmly, and {s} smiled back.",
    "{P} {e?}eyes were bright and clear.",
    "A smile lay on {p} {e?}lips.",
    "A warm glow spread through {p} {e?}chest.",
    "It felt good to be alive.",
    "{S} felt light, as if [a weight were gone|{s} could float].",
    "Friends came by and brought [good wine|sweets|flowers].",
    "The sky was wide and blue.",
    "The {d} was soft and warm to the touch.",
    "Luck was on {p} side today.",
];

/// The same subjects, going badly.
pub const UNPLEASANT: &[&str] = &[
    "Rain [fell without end|beat against the window|ran down the walls].",
    "A [cold|harsh|bitter] wind blew [from the north|through the cracks].",
    "There was a smell of [smoke|damp|old rags] and dust.",
    "Crows cried [on the wire|outside|over the field].",
    "The light was [grey|weak and dirty], and the air was stale.",
    "{F} frowned at {o}.",
    "{F} was cold to {o} and [turned away|took the better half].",
    "Somewhere a child cried, and no one went to it.",
    "{F} gave {o} nothing but a [hard look|cold shrug].",
    "The [soup|tea|bread] was cold and bitter.",
    "Nothing fitted, and everything went wrong.",
    "The {t} was dirty, as if no one had cared for it.",
    "The {t} was bent, dull and broken.",
    "There were dead leaves [on the table|by the door|on the sill], brown and wet.",
    "\"What do you want here?\" said {F}.",
    "\"That is no good, no good at all,\" said {F}.",
    "{F} shook {fp} head, and {s} looked away.",
    "{P} {e?}eyes were dark and narrow.",
    "A frown lay on {p} {e?}brow.",
    "A cold ache spread through {p} {e?}chest.",
    "It hurt to be there at all.",
    "{S} felt sick, as if [a weight lay on {o}|something were torn].",
    "People walked by and [looked away|said unkind things].",
    "The sky was low and black.",
    "The {d} was damp and cold to the touch.",
    "Luck was against {o} today.",
];

/// Body and movement under high arousal, pleasant or not.
pub const LIVELY: &[&str] = &[
    "{P} {e?}heart [beat fast|pounded|raced].",
    "{S} jumped up at once.",
    "{S} ran [out|to the door|up and down] without a stop.",
    "{P} {e?}pulse beat in {p} {e?}ears.",
    "{S} breathed fast and [could not sit still|spoke very quickly].",
    "{P} {e?}hands shook.",
    "\"Quick! Now! Come on!\" {s} called.",
    "{S} grabbed the {t} with both hands.",
    "{P} {e?}voice rose until all heads turned.",
    "Heat shot into {p} {e?}face.",
    "Every muscle in {p} {e?}body was tight.",
    "Everything happened very fast.",
];

/// Body and movement under low arousal.
pub const STILL: &[&str] = &[
    "{P} {e?}heart beat [slowly|low and slow].",
    "{S} stayed where {s} was and did not get up.",
    "{S} moved [slowly|with slow steps] and said little.",
    "{P} {e?}breath was slow and deep.",
    "{S} sat still for a long time.",
    "{P} {e?}hands lay in {p} lap.",
    "\"Let it be,\" {s} said in a quiet voice.",
    "{S} laid the {t} down slowly.",
    "{P} {e?}voice was low and slow.",
    "{S} lay down and looked at the ceiling.",
    "Every limb of {p} {e?}body was heavy.",
    "Minutes went by, and nothing stirred.",
];

/// Good and bad endings.
pub const GOOD_END: &[&str] = &[
    "In the end everything was good.",
    "It was a good day, and {s} would keep it in mind.",
    "They went home together under a bright sky.",
    "{F} said, \"Come again soon,\" and waved.",
    "And so {topic} ended well.",
];
pub const BAD_END: &[&str] = &[
    "In the end nothing was good.",
    "It was a bad day, and {s} wished it had never come.",
    "{S} went home by {x} under a black sky.",
    "{F} said, \"Do not come back,\" and shut the door.",
    "And so {topic} ended badly.",
];

/// Sentences that name the emotion: `{e}` the adjective, `{n}` the noun, `{E}` the adjective capitalised.
pub const NAMING: &[&str] = &[
    "{S} was {e}.",
    "{S} felt {e}.",
    "{S} felt so {e}.",
    "{S} was very {e}.",
    "{S} was more {e} than ever before.",
    "Yes, {s} was {e}.",
    "How {e} {s} was!",
    "\"I am {e},\" {s} said.",
    "\"I feel {e},\" {s} told {F}.",
    "\"I feel so {e},\" {s} said.",
    "\"You look {e},\" said {F}.",
    "\"Why are you so {e}?\" asked {F}.",
    "{F} saw that {s} was {e}.",
    "{S} looked {e}.",
    "{S} had become {e}.",
    "Full of {n}, {s} looked at the {t}.",
    "{S} was full of {n}.",
    "It was {n} that {s} felt.",
    "{E}, {s} looked at the {t}.",
    "{E} and silent, {s} looked at {F}.",
];

/// Phrases that can follow a noun, verb or pronoun anywhere in a sentence and may name the emotion.
pub const TAILS: &[&str] =
    &[", {e}", ", so {e}", " and felt {e}", ", feeling {e}", " and was {e}", ", full of {n}"];
