//! A hundred everyday situations that a story can be about. Independent of emotions.

use super::rng::Rng;
use std::borrow::Cow;

/// A situation: its name in an instruction, and the words used in stories about it.
#[derive(Clone)]
pub struct Topic {
    /// A noun phrase, as in "a story about a lost key".
    pub phrase: Cow<'static, str>,
    /// The place, with its preposition.
    pub place: Cow<'static, str>,
    /// The most important thing, a countable noun.
    pub thing: Cow<'static, str>,
    /// Another thing, a countable noun.
    pub other: Cow<'static, str>,
    /// What the main character did, a verb phrase in the past tense.
    pub act: Cow<'static, str>,
}

const fn t(
    phrase: &'static str,
    place: &'static str,
    thing: &'static str,
    other: &'static str,
    act: &'static str,
) -> Topic {
    Topic {
        phrase: Cow::Borrowed(phrase),
        place: Cow::Borrowed(place),
        thing: Cow::Borrowed(thing),
        other: Cow::Borrowed(other),
        act: Cow::Borrowed(act),
    }
}

/// A training topic or a held-out one.
pub fn topic(held_out: bool, rng: &mut Rng) -> Topic {
    if !held_out && rng.chance(INVENTED) {
        return invented(rng);
    }
    loop {
        let i = rng.below(TOPICS.len());
        if is_held_out(i) == held_out {
            return TOPICS[i].clone();
        }
    }
}

/// The fraction of training topics that are composed at random, so that a model has to read the topic in the
/// instruction instead of memorizing all topics.
const INVENTED: f64 = 0.45;

const ADJECTIVES: [&str; 20] = [
    "red",
    "old",
    "new",
    "small",
    "wooden",
    "blue",
    "heavy",
    "broken",
    "empty",
    "round",
    "green",
    "lost",
    "little",
    "silver",
    "second",
    "stolen",
    "black",
    "paper",
    "forgotten",
    "big",
];
const NOUNS: [&str; 48] = [
    "kettle",
    "hat",
    "drum",
    "ladder",
    "bucket",
    "map",
    "violin",
    "spoon",
    "chair",
    "bottle",
    "kite",
    "lamp",
    "wagon",
    "mirror",
    "basket",
    "umbrella",
    "carpet",
    "statue",
    "flag",
    "radio",
    "pillow",
    "button",
    "glove",
    "camera",
    "cup",
    "box",
    "stone",
    "pencil",
    "ring",
    "wheel",
    "boot",
    "clock",
    "book",
    "candle",
    "coin",
    "door",
    "ticket",
    "bell",
    "shirt",
    "bag",
    "bench",
    "bowl",
    "rope",
    "card",
    "photograph",
    "suitcase",
    "phone",
    "bicycle",
];
const PLACES: [&str; 28] = [
    "on the hill",
    "in the cellar",
    "at the harbour",
    "in the barn",
    "on the balcony",
    "in the shop",
    "at the corner",
    "in the yard",
    "under the bridge",
    "in the tower",
    "at the inn",
    "on the roof",
    "in the forest",
    "at the mill",
    "in the square",
    "at the gate",
    "by the well",
    "in the gym",
    "in the theatre",
    "at the zoo",
    "at the bakery",
    "in the hallway",
    "in the kitchen",
    "in the office",
    "at the bus stop",
    "in the library",
    "by the sea",
    "in the village",
];
const ACTS: [&str; 12] = [
    "looked for",
    "carried",
    "found",
    "cleaned",
    "sold",
    "bought",
    "waited for",
    "thought about",
    "painted",
    "brought back",
    "came because of",
    "asked about",
];

fn invented(rng: &mut Rng) -> Topic {
    let (thing, other, place) = (rng.pick(&NOUNS), rng.pick(&NOUNS), rng.pick(&PLACES));
    let adjective = rng.pick(&ADJECTIVES);
    let article = if rng.chance(0.5) { "the" } else { "the teacher's" };
    let (phrase, object) = match rng.below(5) {
        0 => (format!("the {adjective} {thing}"), format!("the {adjective} {thing}")),
        1 => (format!("{article} {thing} {place}"), format!("{article} {thing}")),
        2 => (format!("two {thing}s and a {other}"), format!("the two {thing}s")),
        3 => (format!("the {thing} and the {other}"), format!("the {thing}")),
        _ => (format!("the search for the {adjective} {thing}"), format!("the {thing}")),
    };
    Topic {
        phrase: phrase.into(),
        place: place.into(),
        thing: thing.into(),
        other: other.into(),
        act: format!("{} {object}", rng.pick(&ACTS)).into(),
    }
}

/// Every seventh topic is held out from training, for the held-out loss.
fn is_held_out(index: usize) -> bool {
    index % 7 == 3
}

const TOPICS: [Topic; 100] = [
    t("a lost key", "in the hallway", "key", "coat", "searched every pocket for the key"),
    t("the school play", "behind the stage", "costume", "curtain", "waited for the school play to begin"),
    t("a letter from abroad", "at the kitchen table", "letter", "stamp", "opened the letter from abroad"),
    t(
        "the first day at a new job",
        "in the new office",
        "badge",
        "desk",
        "walked in for the first day at work",
    ),
    t("a broken cup", "in the kitchen", "cup", "shelf", "looked at the broken cup on the floor"),
    t("the last bus home", "at the bus stop", "ticket", "bench", "waited for the last bus home"),
    t("a birthday party", "in the living room", "cake", "candle", "came home to the birthday party"),
    t("a walk in the park", "in the park", "path", "bench", "went for a walk in the park"),
    t("the old piano", "in the music room", "piano", "stool", "sat down at the old piano"),
    t(
        "a visit to the dentist",
        "in the waiting room",
        "chair",
        "magazine",
        "sat in the dentist's waiting room",
    ),
    t("a phone call at night", "in the bedroom", "phone", "lamp", "picked up the phone in the night"),
    t("the football match", "on the field", "ball", "goal", "played in the football match"),
    t(
        "a dinner with the family",
        "at the long table",
        "plate",
        "chair",
        "sat down to dinner with the family",
    ),
    t("a rainy afternoon", "by the window", "window", "blanket", "stayed in on a rainy afternoon"),
    t("the neighbour's dog", "by the garden fence", "dog", "fence", "met the neighbour's dog"),
    t("an exam at school", "in the exam hall", "paper", "pencil", "turned over the exam paper"),
    t("a train journey", "on the train", "suitcase", "window seat", "travelled all day by train"),
    t("the empty house", "in the empty house", "door", "box", "walked through the empty house"),
    t("a wedding", "in the garden of the church", "ring", "dress", "came early to the wedding"),
    t("a library book", "in the library", "book", "shelf", "brought back the library book"),
    t("the morning market", "at the market", "basket", "stall", "went to the morning market"),
    t("a new bicycle", "in the street", "bicycle", "bell", "took out the new bicycle"),
    t("a night in a tent", "in the tent", "tent", "torch", "spent the night in a tent"),
    t("the job interview", "in the long corridor", "folder", "door", "waited for the job interview"),
    t(
        "a photograph in a drawer",
        "in the old study",
        "photograph",
        "drawer",
        "found the photograph in a drawer",
    ),
    t("the swimming lesson", "at the pool", "towel", "whistle", "stood at the edge of the pool"),
    t("a cake for the neighbours", "in the small kitchen", "cake", "bowl", "baked a cake for the neighbours"),
    t("a letter from the bank", "at the front door", "letter", "envelope", "read the letter from the bank"),
    t("the hospital visit", "in the hospital", "bed", "flower", "went to the hospital in the evening"),
    t("a game of chess", "in the club room", "board", "clock", "played a game of chess"),
    t("the broken car", "at the side of the road", "car", "engine", "stopped because the car was broken"),
    t("a stray cat", "on the back steps", "cat", "dish", "put out food for the stray cat"),
    t("the village fair", "at the village fair", "balloon", "lantern", "walked through the village fair"),
    t("a song on the radio", "in the car", "radio", "road", "heard a song on the radio"),
    t("the class reunion", "in the old school hall", "name card", "table", "arrived at the class reunion"),
    t("a day at the beach", "on the beach", "shell", "towel", "spent the day at the beach"),
    t("a missed appointment", "at the front desk", "clock", "calendar", "came too late for the appointment"),
    t("the garden in spring", "in the garden", "seed", "spade", "worked in the garden in spring"),
    t("a power cut", "in the dark flat", "candle", "match", "sat in the flat during the power cut"),
    t("the school bus", "on the school bus", "bag", "seat", "got on the school bus"),
    t("a gift in blue paper", "on the sofa", "gift", "ribbon", "unwrapped the gift in blue paper"),
    t("the choir rehearsal", "in the church", "song sheet", "candle", "went to the choir rehearsal"),
    t(
        "a stain on the carpet",
        "in the front room",
        "carpet",
        "bucket",
        "knelt beside the stain on the carpet",
    ),
    t("the long queue", "in the post office", "parcel", "counter", "stood in the long queue"),
    t("a message without a name", "at the desk", "message", "screen", "read the message without a name"),
    t("the lake in winter", "by the frozen lake", "skate", "scarf", "went down to the lake in winter"),
    t("a sick child", "beside the small bed", "blanket", "cup", "sat up with the sick child"),
    t("the moving van", "in front of the house", "box", "van", "watched the moving van"),
    t("a cooking class", "in the cooking school", "pan", "apron", "joined the cooking class"),
    t("the lost wallet", "at the station", "wallet", "bench", "reached for the lost wallet"),
    t("a walk home at night", "in the dark lane", "street lamp", "gate", "walked home at night"),
    t(
        "the grandmother's garden",
        "in the old garden",
        "rose",
        "watering can",
        "helped in the grandmother's garden",
    ),
    t("a delayed flight", "at the airport", "ticket", "screen", "waited for the delayed flight"),
    t("the talent show", "on the small stage", "microphone", "light", "stepped out at the talent show"),
    t("a haircut", "at the hairdresser's", "mirror", "comb", "sat down for a haircut"),
    t("the shared kitchen", "in the shared kitchen", "pot", "fridge", "cooked in the shared kitchen"),
    t("a snow day", "in the white street", "sledge", "glove", "ran outside on the snow day"),
    t("the attic", "in the attic", "trunk", "ladder", "climbed up to the attic"),
    t("a fishing trip", "on the river bank", "rod", "boat", "went on a fishing trip"),
    t("the dance class", "in the dance hall", "shoe", "mirror", "stood in line at the dance class"),
    t("a wrong number", "in the hall", "phone", "notebook", "answered the wrong number"),
    t("the new neighbour", "on the stairs", "box", "door", "met the new neighbour"),
    t("a picnic by the river", "by the river", "basket", "blanket", "came to the picnic by the river"),
    t("the museum trip", "in the museum", "painting", "guide", "walked through the museum"),
    t("a burnt dinner", "in the smoky kitchen", "pan", "oven", "took the burnt dinner from the oven"),
    t("the chess club", "in the back room", "board", "clock", "went to the chess club"),
    t("an old friend", "in the cafe", "cup", "table", "met an old friend"),
    t("the bakery on the corner", "in the bakery", "loaf", "counter", "went to the bakery on the corner"),
    t("a night shift", "in the quiet ward", "lamp", "chart", "worked the night shift"),
    t("the running race", "on the track", "number", "whistle", "lined up for the running race"),
    t("a garden shed", "in the shed", "hammer", "shelf", "cleaned out the garden shed"),
    t("the river crossing", "at the river", "boat", "rope", "came to the river crossing"),
    t("a package at the door", "on the doorstep", "package", "knife", "found a package at the door"),
    t("the parents' evening", "in the classroom", "report", "desk", "came to the parents' evening"),
    t("a broken promise", "in the small flat", "phone", "calendar", "thought about a broken promise"),
    t("the concert ticket", "in front of the concert hall", "ticket", "poster", "held the concert ticket"),
    t("a storm at sea", "on the deck", "sail", "rope", "was out in a storm at sea"),
    t("the office party", "in the office", "glass", "paper hat", "went to the office party"),
    t("a letter to the editor", "at the writing desk", "pen", "newspaper", "wrote a letter to the editor"),
    t("the allotment", "at the allotment", "spade", "bean", "went out to the allotment"),
    t("a puppy", "on the rug", "puppy", "lead", "brought the puppy home"),
    t("the driving test", "in the small car", "wheel", "mirror", "took the driving test"),
    t(
        "a secret in the family",
        "in the dining room",
        "letter",
        "photograph",
        "heard about a secret in the family",
    ),
    t("the washing machine", "in the laundry room", "sock", "machine", "stood before the washing machine"),
    t("a mountain hike", "on the mountain path", "map", "boot", "climbed up on a mountain hike"),
    t("the hotel room", "in the hotel", "key card", "curtain", "opened the hotel room"),
    t("a painting lesson", "in the bright studio", "brush", "easel", "came to the painting lesson"),
    t("the newspaper stand", "at the newspaper stand", "newspaper", "coin", "stopped at the newspaper stand"),
    t("an unexpected visit", "at the open door", "bell", "coat", "opened the door to an unexpected visit"),
    t("the ferry", "on the ferry", "rail", "bag", "took the ferry across"),
    t("a poem for class", "in front of the class", "poem", "page", "read out a poem for class"),
    t("the workshop", "in the workshop", "saw", "bench", "spent the day in the workshop"),
    t("a flat tyre", "on the country road", "tyre", "pump", "stopped with a flat tyre"),
    t("the tea room", "in the tea room", "pot", "spoon", "sat down in the tea room"),
    t("a house by the sea", "in the house by the sea", "window", "shell", "came to the house by the sea"),
    t("the evening class", "in the evening class", "notebook", "board", "came to the evening class"),
    t("a jar of coins", "in the bedroom", "jar", "coin", "emptied the jar of coins"),
    t("the birthday card", "at the table", "card", "pen", "opened the birthday card"),
    t(
        "a row of apple trees",
        "under the apple trees",
        "apple",
        "ladder",
        "picked fruit from the apple trees",
    ),
    t("the night train", "on the night train", "bunk", "suitcase", "lay awake on the night train"),
];
