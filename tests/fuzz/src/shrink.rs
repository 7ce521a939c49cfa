//! Makes an input smaller as long as it breaks the same promise.

/// How often the target may be asked.
const TRIES: usize = 2000;

/// Takes out ever smaller parts of `input` while `still` holds, which it does for `input` itself.
pub fn smaller(input: &[u8], mut still: impl FnMut(&[u8]) -> bool) -> Vec<u8> {
    let mut best = input.to_vec();
    let mut tries = TRIES;
    let mut size = best.len().div_ceil(2);
    while size > 0 {
        let mut start = 0;
        let mut shrunk = false;
        while start < best.len() && tries > 0 {
            tries -= 1;
            let candidate = crate::mutate::replaced(&best, start..(start + size).min(best.len()), &[]);
            if still(&candidate) {
                (best, shrunk) = (candidate, true);
            } else {
                start += size;
            }
        }
        if tries == 0 {
            break;
        }
        if !shrunk {
            size /= 2;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_breaks_it_is_left() {
        let input = [b"x".repeat(300), b"BAD".to_vec(), b"y".repeat(100), b"!".to_vec(), b"z".repeat(50)].concat();
        let still = |input: &[u8]| input.windows(3).any(|window| window == b"BAD") && input.contains(&b'!');
        assert_eq!(smaller(&input, still), b"BAD!");
    }
}
