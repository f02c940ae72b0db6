//! Names of the people in the corpus. Independent of the stories.

use super::rng::Rng;
use super::slots::Person;

/// The fraction of people in training whose names are composed of syllables, so that a model has to read a name in the
/// context instead of memorizing all names.
const INVENTED: f64 = 0.4;
const STARTS: [&str; 24] = [
    "B", "D", "F", "G", "H", "J", "K", "L", "M", "N", "P", "R", "S", "T", "V", "W", "Br", "Dr", "Kr", "Pl",
    "Sh", "St", "Th", "Tr",
];
const VOWELS: [&str; 8] = ["a", "e", "i", "o", "u", "ai", "ea", "oa"];
const MIDDLES: [&str; 12] = ["l", "n", "r", "s", "m", "v", "d", "k", "rl", "nd", "ss", "ll"];
const ENDS: [&str; 10] = ["a", "o", "in", "en", "us", "ia", "ette", "or", "is", "y"];

const WOMEN: [&str; 30] = [
    "Marta", "Anna", "Lena", "Ruth", "Clara", "Nora", "Emma", "Julia", "Sofia", "Greta", "Ines", "Hanna",
    "Maria", "Lucy", "Alice", "Eva", "Rosa", "Helen", "Grace", "Vera", "Amina", "Mei", "Priya", "Zoe",
    "Ada", // training
    "Ingrid", "Leila", "Dora", "Yuki", "Paula", // held out
];
const MEN: [&str; 30] = [
    "Tom", "Paul", "Jonas", "David", "Ben", "Karl", "Omar", "Peter", "Max", "Leo", "Samuel", "Adam", "Felix",
    "Hugo", "Ivan", "Luis", "Noah", "Oscar", "Ravi", "Simon", "Theo", "Victor", "Walter", "George",
    "Ali", // training
    "Magnus", "Kofi", "Edgar", "Hiro", "Bruno", // held out
];
/// Number of names at the end of each list that are held out from training.
const HELD_OUT: usize = 5;

/// A person with a training name or a held-out one.
pub fn person(held_out: bool, rng: &mut Rng) -> Person {
    let female = rng.chance(0.5);
    if !held_out && rng.chance(INVENTED) {
        let name = [rng.pick(&STARTS), rng.pick(&VOWELS), rng.pick(&MIDDLES), rng.pick(&ENDS)].concat();
        return Person { name, female };
    }
    let names = if female { &WOMEN } else { &MEN };
    let (trained, kept) = names.split_at(names.len() - HELD_OUT);
    Person { name: rng.pick(if held_out { kept } else { trained }).to_string(), female }
}

/// Two people with different names.
pub fn two(held_out: bool, rng: &mut Rng) -> (Person, Person) {
    let a = person(held_out, rng);
    loop {
        let b = person(held_out, rng);
        if a.name != b.name {
            return (a, b);
        }
    }
}
