//! Loops compiled for the widest registers of the processor. The numbers and the order of additions stay the same:
//! only more of them are computed at a time. Independent of what is computed.

/// Defines a function that is compiled for several register widths and dispatches to the widest one that the
/// processor supports. The functions it calls should be `#[inline(always)]`.
macro_rules! wide {
    ($(#[$about:meta])* $seen:vis fn $name:ident $([$($of_which:tt)*])? ($($arg:ident: $of:ty),* $(,)?) $(-> $made:ty)? $body:block) => {
        $(#[$about])*
        $seen fn $name $(<$($of_which)*>)? ($($arg: $of),*) $(-> $made)? {
            #[inline(always)]
            fn plain $(<$($of_which)*>)? ($($arg: $of),*) $(-> $made)? $body
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f")]
                fn avx512 $(<$($of_which)*>)? ($($arg: $of),*) $(-> $made)? {
                    plain($($arg),*)
                }
                #[target_feature(enable = "avx2")]
                fn avx2 $(<$($of_which)*>)? ($($arg: $of),*) $(-> $made)? {
                    plain($($arg),*)
                }
                if is_x86_feature_detected!("avx512f") {
                    // SAFETY: the processor supports it.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") {
                    // SAFETY: the processor supports it.
                    return unsafe { avx2($($arg),*) };
                }
            }
            plain($($arg),*)
        }
    };
}

pub(super) use wide;
