//! The emotions of the corpus: word, family, valence, arousal, and sentences of their own. Knows nothing of stories.

/// One emotion. `valence` and `arousal` lie in `[-1, 1]` and set how often pleasant (or lively) sentences are drawn.
pub struct Emotion {
    /// The adjective that fits "He feels ...".
    pub word: &'static str,
    /// The name of its family in `families.rs`.
    pub family: &'static str,
    pub valence: f64,
    pub arousal: f64,
    /// The adverb, empty where there is none in use.
    pub adverb: &'static str,
    /// The noun, as in "full of ...".
    pub noun: &'static str,
    /// The beginning shared by its word forms; a story "without the word" has no word that starts so.
    pub stem: &'static str,
    /// Sentences that belong to this emotion alone, in the slot language of `slots.rs`.
    pub own: &'static [&'static str],
}

#[allow(clippy::too_many_arguments)]
const fn e(
    word: &'static str,
    family: &'static str,
    valence: f64,
    arousal: f64,
    adverb: &'static str,
    noun: &'static str,
    stem: &'static str,
    own: &'static [&'static str],
) -> Emotion {
    Emotion { word, family, valence, arousal, adverb, noun, stem, own }
}

pub const EMOTIONS: [Emotion; 36] = [
    e("happy", "joy", 0.9, 0.3, "happily", "happiness", "happ", &[
        "{S} hummed [a tune|an old song] and could not stop.",
        "{S} whistled on the [stairs|way to the door].",
        "{P} {e?}cheeks hurt from so much smiling.",
        "{S} gave the {t} a little [pat|spin] and smiled.",
    ]),
    e("joyful", "joy", 0.95, 0.5, "joyfully", "joy", "joy", &[
        "{S} sang out loud [in the middle of the room|with open arms].",
        "{S} took {F} by both hands and danced in a circle.",
        "\"What a [feast|holiday] this is!\" {s} sang.",
        "Bells seemed to ring in {p} {e?}chest.",
    ]),
    e("excited", "joy", 0.8, 0.95, "excitedly", "excitement", "excite", &[
        "{S} hopped from one foot to the other and [could not wait|counted the minutes].",
        "\"Is it time yet? Is it time?\" {s} asked again and again.",
        "{S} talked so fast that the words fell over each other.",
        "{S} had been up since [four|five] and had checked the {t} [three|ten] times.",
    ]),
    e("delighted", "joy", 0.9, 0.5, "delightedly", "delight", "delight", &[
        "{S} clapped {p} {e?}hands once and held them together.",
        "\"Oh, how lovely, how very lovely!\" {s} said.",
        "\"Exactly what {s} wished for,\" said {F}, and {s} clapped.",
        "{S} turned the {t} round to see [its other side|every little part of it].",
    ]),
    e("amused", "joy", 0.7, 0.3, "", "amusement", "amuse", &[
        "{S} giggled behind {p} {e?}hand at the silly [hat|joke|face].",
        "The corners of {p} {e?}mouth twitched at the joke.",
        "\"That is the funniest thing [all week|this year],\" {s} said and giggled.",
        "{S} had to bite {p} lip so as not to giggle.",
    ]),
    e("loving", "love", 0.9, -0.1, "lovingly", "love", "lov", &[
        "{S} kissed {F} on the [forehead|cheek] and held {fo} close.",
        "\"You are dear to me,\" {s} said, \"you know that.\"",
        "{S} stroked {F}'s hair [until {fs} slept|for a long time].",
        "{S} cut the best piece and kept it for {F}.",
    ]),
    e("calm", "calm", 0.7, -0.9, "calmly", "calm", "calm", &[
        "{S} breathed in, breathed out, and [took one thing at a time|did the next thing].",
        "{P} {e?}voice was level, and {p} {e?}hands were steady.",
        "\"No hurry,\" {s} said in an even voice. \"One step and then the next.\"",
        "Nothing in {o} moved, like a pond [without wind|in the evening].",
    ]),
    e("peaceful", "calm", 0.8, -0.9, "peacefully", "peace", "peace", &[
        "The whole world seemed to lie still [under the sky|around the house].",
        "{S} listened to the far bells and folded {p} hands.",
        "\"Listen,\" {s} said, \"how still it is.\"",
        "Doves called [in the trees|on the roof], and nobody wanted anything.",
    ]),
    e("relaxed", "calm", 0.75, -0.85, "", "ease", "relax", &[
        "{S} put {p} feet up and let {p} {e?}shoulders drop.",
        "{S} stretched like a cat and leaned back [in the cushions|in the chair].",
        "\"I could sit here all day,\" {s} said and yawned a little.",
        "{S} loosened {p} collar and let {p} {e?}arms hang.",
    ]),
    e("proud", "pride", 0.8, 0.4, "proudly", "pride", "proud", &[
        "{S} held {p} head high and [showed everyone the {t}|let everyone look].",
        "\"I made it myself,\" {s} said, chin up.",
        "{S} stood very straight while [they clapped|the others cheered].",
        "{S} hung the medal where all [could see it|visitors came by].",
    ]),
    e("hopeful", "hope", 0.7, 0.1, "hopefully", "hope", "hope", &[
        "{S} crossed {p} fingers and looked [to the door|down the road] again.",
        "\"Perhaps tomorrow,\" {s} said. \"It may still turn out well.\"",
        "{S} kept a place free, in case [the answer was yes|good news came].",
        "A small light had been lit in {p} {e?}heart, and it stayed.",
    ]),
    e("grateful", "gratitude", 0.85, -0.2, "gratefully", "gratitude", "grat", &[
        "{S} pressed {F}'s hand and [could hardly find the words|bowed {p} head].",
        "\"I will never forget what you did for me,\" {s} said.",
        "{S} wrote {F} a long card about all that [{fs} had done|help].",
        "\"Without you I would still be [there|lost],\" {s} told {F}.",
    ]),
    e("thankful", "gratitude", 0.85, -0.3, "thankfully", "thanks", "thank", &[
        "{S} counted the good things one by one [before sleep|on {p} fingers].",
        "\"Bless you,\" {s} said, \"bless you for this.\"",
        "{S} left [a pot of honey|a jar of jam] at {F}'s door in return.",
        "{S} looked up at the sky and nodded, as one does after a prayer.",
    ]),
    e("surprised", "surprise", 0.3, 0.7, "", "surprise", "surpris", &[
        "{P} {e?}eyebrows went up, and {s} said, \"Oh!\"",
        "\"You? Here? Today?\" {s} asked.",
        "{S} looked at the {t}, and then looked again.",
        "{S} had [not seen that coming|thought of everything but that].",
    ]),
    e("astonished", "surprise", 0.35, 0.9, "", "astonishment", "astonish", &[
        "{P} {e?}mouth fell open and stayed open.",
        "\"That cannot be! It cannot!\" {s} said [at last|with wide eyes].",
        "{S} rubbed {p} {e?}eyes and stared as if at a miracle.",
        "For a whole minute {s} could not say a word, only stare.",
    ]),
    e("sad", "sadness", -0.85, -0.6, "sadly", "sadness", "sad", &[
        "A tear ran down {p} {e?}cheek and [fell on the {t}|dried there].",
        "{S} sighed and wiped {p} {e?}eyes with {p} sleeve.",
        "\"It is just such a pity,\" {s} said and sighed.",
        "{S} cried a little, without any noise.",
    ]),
    e("lonely", "sadness", -0.8, -0.6, "", "loneliness", "lonel", &[
        "Nobody had called for [days|a week], and nobody would.",
        "{S} laid the table for one.",
        "Other people walked by in twos and threes, and no one [saw {o}|said a word to {o}].",
        "\"Is anybody there?\" {s} asked the empty room.",
    ]),
    e("heartbroken", "sadness", -0.95, -0.2, "", "heartbreak", "heartbr", &[
        "{F} had left {o} for good, and {p} {e?}chest felt torn in two.",
        "{S} held the old picture of the two of them and sobbed.",
        "\"You said for ever,\" {s} whispered. \"You said for ever.\"",
        "{S} sobbed until there were no tears left, the ring still in {p} hand.",
    ]),
    e("miserable", "sadness", -0.95, -0.4, "miserably", "misery", "miser", &[
        "Everything ached, everything was wet, and [nothing went right|no one came].",
        "{S} sat in the cold with wet socks and a [sore throat|running nose].",
        "\"It is one wretched thing after another,\" {s} groaned.",
        "{S} pulled the blanket over {p} head and groaned.",
    ]),
    e("angry", "anger", -0.8, 0.8, "angrily", "anger", "ang", &[
        "{P} {e?}face went red, and {s} [slammed the door|banged on the table].",
        "\"How dare you!\" {s} said, and {p} {e?}voice grew loud.",
        "{S} pointed at {F} and [shouted|told {fo} to get out].",
        "{S} glared at {F} with {p} {e?}jaw set.",
    ]),
    e("furious", "anger", -0.9, 0.95, "furiously", "fury", "fur", &[
        "{S} roared and threw the {t} against the wall.",
        "{S} kicked the chair so hard that it broke.",
        "\"Out! Get out, all of you!\" {s} roared.",
        "The veins stood out on {p} {e?}neck, and {s} shook with rage.",
    ]),
    e("irritated", "anger", -0.65, 0.5, "", "irritation", "irrit", &[
        "{S} clicked {p} tongue and rolled {p} {e?}eyes.",
        "\"Must you [do that|make that noise]?\" {s} snapped.",
        "The [tapping|dripping] went on and on, and {s} drummed {p} {e?}fingers.",
        "{S} snapped at {F} for [the third time|no great reason].",
    ]),
    e("jealous", "envy", -0.7, 0.4, "jealously", "jealousy", "jealous", &[
        "{S} watched {F} laugh with [the other one|somebody else] and bit {p} lip.",
        "\"Who was that on the phone with you?\" {s} asked {F}, and asked it again.",
        "{S} wanted {F}'s eyes for {x} alone.",
        "{S} read {F}'s messages in secret, looking for [the other name|a kiss].",
    ]),
    e("envious", "envy", -0.65, 0.2, "enviously", "envy", "env", &[
        "{S} looked at {F}'s [big house|shining car] and then at {p} own shoes.",
        "\"Some people get everything,\" {s} muttered.",
        "{S} counted all that {F} had and {s} had not.",
        "{S} would have given a year for [half of {F}'s luck|what {F} owned].",
    ]),
    e("disgusted", "disgust", -0.8, 0.3, "", "disgust", "disgust", &[
        "{S} wrinkled {p} {e?}nose and [pushed the plate away|held {p} breath].",
        "\"Ugh, take it away,\" {s} said, \"it is rotten.\"",
        "{P} {e?}stomach turned at the [slime|smell of mould].",
        "{S} spat into the sink and washed {p} {e?}hands three times.",
    ]),
    e("afraid", "fear", -0.85, 0.7, "", "fear", "afraid", &[
        "{S} hid behind the door and [did not dare to move|held {p} breath].",
        "\"Do not leave me alone with it,\" {s} whispered.",
        "{S} pulled back from the dark [corner|stairs].",
        "Something moved in the dark, and {s} shrank back.",
    ]),
    e("terrified", "fear", -0.95, 0.95, "", "terror", "terr", &[
        "{S} screamed, and the scream would not end.",
        "{P} {e?}blood seemed to freeze, and {p} {e?}legs gave way.",
        "{S} screamed and ran as if death itself [came behind|were there].",
        "\"It will kill us!\" {s} screamed.",
    ]),
    e("panicked", "fear", -0.9, 1.0, "", "panic", "panic", &[
        "{S} gasped for air and [ran to one door, then to the other|could not think].",
        "\"What do I do? What do I do?\" {s} gasped.",
        "{S} pulled out every drawer and ran in circles.",
        "The room spun, and {s} gasped and clawed at {p} {e?}collar.",
    ]),
    e("nervous", "fear", -0.6, 0.6, "nervously", "nerves", "nerv", &[
        "{S} bit {p} {e?}nails and [cleared {p} throat|looked at the clock].",
        "{P} {e?}palms were wet, and {s} wiped them on {p} coat.",
        "\"I, well, that is, I,\" {s} stammered.",
        "{S} stammered, dropped the {t} and stammered again.",
    ]),
    e("anxious", "fear", -0.7, 0.6, "anxiously", "anxiety", "anxi", &[
        "What if it went wrong? What if [no one came|it was too late]? {S} could not stop asking.",
        "{S} paced up and down with a knot in {p} {e?}stomach.",
        "\"Are you quite sure nothing will happen?\" {s} asked, and paced on.",
        "{S} lay awake and went through [every danger|all that could go wrong].",
    ]),
    e("desperate", "desperation", -0.95, 0.7, "desperately", "despair", "desper", &[
        "{S} fell to {p} knees and begged.",
        "\"Please, anything, I will do anything,\" {s} begged.",
        "There was no way out, and {s} had tried them all.",
        "{S} beat on the locked door with both fists and begged for help.",
    ]),
    e("guilty", "guilt", -0.8, -0.1, "guiltily", "guilt", "guilt", &[
        "It had been {p} own fault, and {s} knew it.",
        "\"It was me. I did it. Forgive me,\" {s} said.",
        "{S} had hidden what {s} did, and now {s} could not meet {F}'s eyes.",
        "{S} wanted to confess [everything|it all] and make it good again.",
    ]),
    e("ashamed", "guilt", -0.8, -0.2, "", "shame", "asham", &[
        "{S} hung {p} {e?}head and wished to be [someone else|far away].",
        "\"Do not look at me,\" {s} whispered and covered {p} {e?}face.",
        "{S} covered {p} {e?}face with both hands.",
        "{S} felt small and dirty under all those eyes.",
    ]),
    e("embarrassed", "guilt", -0.6, 0.3, "", "embarrassment", "embarrass", &[
        "{S} blushed to the [ears|roots of {p} hair].",
        "Everyone had seen it, and {s} blushed and tugged at {p} sleeve.",
        "\"Oh no, did I say that aloud?\" {s} asked and blushed.",
        "{S} laughed too loudly and wished the floor would open.",
    ]),
    e("bored", "weariness", -0.4, -0.9, "", "boredom", "bored", &[
        "{S} counted the [tiles|spots on the wall] and then counted them again.",
        "\"Nothing ever happens here,\" {s} said.",
        "{S} drew [squares|little boxes] on the edge of the paper, one after the other.",
        "The clock had hardly moved since {s} last looked.",
    ]),
    e("tired", "weariness", -0.45, -0.9, "", "weariness", "tired", &[
        "{P} {e?}eyelids were heavy, and {s} nodded off [for a moment|in the chair].",
        "\"I only want my bed,\" {s} said and rubbed {p} {e?}eyes.",
        "{S} had not slept, and every step was as heavy as lead.",
        "{S} yawned and yawned and laid {p} head on {p} arms.",
    ]),
];
