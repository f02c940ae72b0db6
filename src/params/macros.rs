//! `params!` and `words!`: a struct or an enum that is all there is to say about a table or a value of the file.

/// Declares the struct that a table of the experiment file becomes. Everything else follows from it: how the table is
/// read, with every problem at once; its tables in `docs/experiment.md`; its JSON Schema; and, as the struct is what keys
/// are digests of, its part of the pre-image, in the order of the fields.
///
/// ```text
/// params! {
///     /// How well a linear classifier tells the emotions apart.       what the table is for
///     #[check(folds_are_few)]                                         fn(&Reader, &Parts<Probe>) -> Read<()>: rules across keys
///     pub struct Probe {
///         /// Parts that the topics are dealt into.                    the key's meaning
///         pub folds: usize = 5, 2..=100;                               type, default in TOML, bounds
///         /// Of the ridge.
///         pub penalty: f64 = 0.01, above 0.0..=1000.0;
///         /// At most so many padded tokens.
///         #[unset("as the device wants it")]                           no value unless one is written
///         pub batch_tokens: Option<usize>, 1..;
///         /// Who is asked.                                            without any of these: the key is required
///         #[with(url)]                                                 fn(&Reader, &str) -> Read<String>, reads it
///         pub url: String;
///     }
/// }
/// ```
///
/// Further: `#[ships("in words", "in TOML")]`, a long default; `#[of(Type::...)]`, another type than the field's own;
/// `#[only(Case::...)]`, a key that is not there otherwise; `#[when(Case::..., default = 1, about = "...")]`, another default
/// or meaning there (of the struct: another meaning). `#[of(Type::Inline(T::TABLE))]` with `#[with(inline)]`: the keys of
/// another struct, in this table. `#[of(Type::NONE)]`: a field that is no key. A field that is in no pre-image has
/// `#[serde(skip)]`.
macro_rules! params {
    (
        $(#[doc = $about:literal])*
        $(#[when($case:expr, $case_about:literal)])*
        $(#[check($check:path)])?
        pub struct $Name:ident {
            $(
                $(#[doc = $meaning:literal])*
                $(#[unset($unset:literal)])?
                $(#[ships($shown:literal, $ships:expr)])?
                $(#[of($of:expr)])?
                $(#[with($with:path)])?
                $(#[only($only:expr)])?
                $(#[when(
                    $when:expr
                    $(, default = $when_default:tt)?
                    $(, unset = $when_unset:literal)?
                    $(, of = $when_of:expr)?
                    $(, about = $when_about:literal)?
                )])*
                $(#[serde($($serde:tt)*)])*
                pub $key:ident: $T:ty
                    $(= $default:tt)?
                    $(, $(above $above:literal)? $($min:literal)? $(..= $max:literal)? $(..)?)?;
            )*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Debug, PartialEq, serde::Serialize)]
        pub struct $Name {
            $(
                $(#[doc = $meaning])*
                $(#[serde($($serde)*)])*
                pub $key: $T,
            )*
        }

        const _: () = {
            pub struct Parts {
                $(pub $key: $crate::params::Read<$T>,)*
            }

            static TABLE: $crate::params::Table = $crate::params::Table {
                about: concat!($($about),*),
                abouts: &[$(($case, $case_about)),*],
                keys: &[$(
                    $crate::params::Key {
                        name: $crate::params::bare(stringify!($key)),
                        of: $crate::params::macros::or!([$($of)?] <$T as $crate::params::Value>::OF)
                            $($(.above($above as f64))? $(.at_least($min as f64))? $(.at_most($max as f64))?)?,
                        default: $crate::params::macros::default!([$($default)?] [$($unset)?] [$($shown, $ships)?]),
                        about: concat!($($meaning),*),
                        only: $crate::params::macros::or!([$(Some($only))?] None),
                        when: &[$(
                            $crate::params::When {
                                case: $when,
                                default: $crate::params::macros::or!([
                                    $(Some($crate::params::Default::Is(stringify!($when_default))))?
                                    $(Some($crate::params::Default::Said($when_unset)))?
                                ] None),
                                of: $crate::params::macros::or!([$(Some($when_of))?] None),
                                about: $crate::params::macros::or!([$(Some($when_about))?] None),
                            }
                        ),*],
                    }
                ),*],
            };

            impl $crate::params::Params for $Name {
                type Parts = Parts;
                const TABLE: &'static $crate::params::Table = &TABLE;

                fn parts(reader: &$crate::params::Reader<'_>) -> Parts {
                    Parts {
                        $($key: $crate::params::macros::or!([$($with)?] $crate::params::Reader::get)(
                            reader,
                            $crate::params::bare(stringify!($key)),
                        ),)*
                    }
                }

                $(fn check(reader: &$crate::params::Reader<'_>, parts: &Parts) -> $crate::params::Read<()> {
                    $check(reader, parts)
                })?

                fn whole(parts: Parts) -> $crate::params::Read<$Name> {
                    let Parts { $($key),* } = parts;
                    Ok($Name { $($key: $key?),* })
                }
            }

            impl $crate::params::Value for $Name {
                const OF: $crate::params::Type = $crate::params::Type::Table(&TABLE);

                fn parse(
                    reader: &$crate::params::Reader<'_>,
                    key: &$crate::params::Key,
                    node: &std::rc::Rc<$crate::params::Node>,
                ) -> $crate::params::Read<$Name> {
                    <$Name as $crate::params::Params>::read(&reader.table(key.name, node.clone(), &TABLE)?)
                }
            }
        };
    };
}

/// The first, if it is there; else the second.
macro_rules! or {
    ([$given:expr] $otherwise:expr) => {
        $given
    };
    ([] $otherwise:expr) => {
        $otherwise
    };
}

/// What holds where a key is not written.
macro_rules! default {
    ([] [] []) => {
        $crate::params::Default::Required
    };
    ([$default:tt] [] []) => {
        $crate::params::Default::Is(stringify!($default))
    };
    ([] [$unset:literal] []) => {
        $crate::params::Default::Said($unset)
    };
    ([] [] [$shown:literal, $ships:expr]) => {
        $crate::params::Default::Ships($shown, $ships)
    };
}

/// Declares an enum whose values are words in the file, in keys and in `run.json`; or, of an enum that is declared
/// elsewhere, which words they are.
macro_rules! words {
    (
        $(#[doc = $about:literal])*
        pub enum $Name:ident {
            $($(#[doc = $meaning:literal])* $Word:ident = $word:literal,)*
        }
    ) => {
        $(#[doc = $about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
        pub enum $Name {
            $($(#[doc = $meaning])* #[serde(rename = $word)] $Word,)*
        }

        $crate::params::macros::words!($Name { $($Word = $word),* });
    };
    ($Name:ident { $($Word:ident = $word:literal),* }) => {
        impl $crate::params::Words for $Name {
            const WORDS: &'static [(&'static str, Self)] = &[$(($word, $Name::$Word)),*];
        }
    };
}

pub(crate) use {default, or, params, words};
