//! What crosses the boundary: memory of C that is read and written, memory of ours that C gives back.

use std::ptr;
use std::slice;

/// Bytes or text (not terminated). What a function returns belongs to the caller, who gives it back with `free_rust_vec`.
#[repr(C)]
pub struct VecU8 {
    /// The first byte; may be null if `len` is 0.
    pub ptr: *mut u8,
    /// How many bytes there are.
    pub len: usize,
    /// How many bytes there is room for.
    pub cap: usize,
}

/// A truth value that may be absent.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct OptionalBool {
    /// Whether there is one.
    pub _0: bool,
    /// The value, if there is one.
    pub _1: bool,
}

impl VecU8 {
    /// Nothing: what failed calls return.
    pub const EMPTY: Self = Self { ptr: ptr::null_mut(), len: 0, cap: 0 };

    /// Gives `bytes` to C.
    pub fn give(bytes: Vec<u8>) -> Self {
        let mut bytes = std::mem::ManuallyDrop::new(bytes);
        Self { ptr: bytes.as_mut_ptr(), len: bytes.len(), cap: bytes.capacity() }
    }

    /// Takes back what [`VecU8::give`] gave, and frees it.
    ///
    /// # Safety
    /// It must come from `give`, unchanged, and not have been taken back.
    pub unsafe fn take_back(self) {
        if self.ptr.is_null() || self.cap == 0 {
            return;
        }
        // SAFETY: the caller says that the three parts are those of a vector that was forgotten in `give`.
        drop(unsafe { Vec::from_raw_parts(self.ptr, self.len, self.cap) });
    }
}

/// The bytes at `pointer`; none if it is null and `len` is 0, and nothing usable if it is null otherwise.
///
/// # Safety
/// If `pointer` is not null, `len` bytes there must be readable and not change for as long as the result is used.
pub unsafe fn bytes<'a>(pointer: *const u8, len: usize) -> Option<&'a [u8]> {
    if len == 0 {
        return Some(&[]);
    }
    if pointer.is_null() || isize::try_from(len).is_err() {
        return None;
    }
    // SAFETY: not null, short enough, and readable by the caller's word; bytes have no alignment.
    Some(unsafe { slice::from_raw_parts(pointer, len) })
}

/// The bytes of a vector that C owns.
///
/// # Safety
/// If `vector` is not null, it must point to a valid vector, and so must its parts; see [`bytes`].
pub unsafe fn vector<'a>(vector: *const VecU8) -> Option<&'a [u8]> {
    if vector.is_null() || !vector.is_aligned() {
        return None;
    }
    // SAFETY: not null, aligned, and valid by the caller's word.
    let VecU8 { ptr, len, .. } = unsafe { &*vector };
    // SAFETY: by the caller's word.
    unsafe { bytes(*ptr, *len) }
}

/// Copies `value` to the `room` bytes at `pointer`. `false`, and nothing copied, if it does not fit.
///
/// # Safety
/// If `pointer` is not null, `room` bytes there must be writable, and no reference to them may exist.
pub unsafe fn fill(pointer: *mut u8, room: usize, value: &[u8]) -> bool {
    if value.len() > room || pointer.is_null() {
        return value.is_empty();
    }
    // SAFETY: writable by the caller's word and long enough; our value cannot overlap C's buffer, which nobody refers to.
    unsafe { ptr::copy_nonoverlapping(value.as_ptr(), pointer, value.len()) };
    true
}

/// Writes `text`, cut to fit, and a terminating zero to the `room` bytes at `pointer`.
///
/// # Safety
/// As for [`fill`].
pub unsafe fn fill_text(pointer: *mut u8, room: usize, text: &str) {
    let Some(longest) = room.checked_sub(1) else { return };
    // A cut in the middle of a character would not be text any more.
    let mut end = text.len().min(longest);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    let mut value: Vec<u8> = text.bytes().take(end).map(|byte| if byte == 0 { b' ' } else { byte }).collect();
    value.push(0);
    // SAFETY: by the caller's word.
    unsafe { fill(pointer, room, &value) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_can_be_taken_back() {
        let given = VecU8::give(b"evidence".to_vec());
        // SAFETY: just made.
        assert_eq!(unsafe { vector(&given) }, Some(&b"evidence"[..]));
        // SAFETY: just made, and not used again.
        unsafe { given.take_back() };
        // SAFETY: there is nothing to free.
        unsafe { VecU8::EMPTY.take_back() };
    }

    #[test]
    fn null_and_nonsense_are_not_read() {
        // SAFETY: nothing is dereferenced.
        unsafe {
            assert_eq!(vector(ptr::null()), None);
            assert_eq!(bytes(ptr::null(), 4), None);
            assert_eq!(bytes(ptr::null(), 0), Some(&[][..]));
            assert_eq!(bytes(ptr::dangling(), usize::MAX), None);
        }
    }

    #[test]
    fn text_is_cut_between_characters_and_terminated() {
        for (room, expected) in
            [(10, &b"a\xc3\xa4b\0"[..]), (4, b"a\xc3\xa4\0"), (3, b"a\0"), (1, b"\0"), (0, b"")]
        {
            let mut buffer = [0xee; 10];
            // SAFETY: the buffer has at least `room` bytes.
            unsafe { fill_text(buffer.as_mut_ptr(), room, "aäb") };
            assert_eq!(&buffer[..expected.len()], expected, "{room}");
            assert!(buffer[room..].iter().all(|byte| *byte == 0xee), "{room}");
        }
    }

    #[test]
    fn nothing_is_written_where_it_does_not_fit() {
        let mut buffer = [0xee; 4];
        // SAFETY: the buffer has four bytes.
        unsafe {
            assert!(!fill(buffer.as_mut_ptr(), 4, b"12345"));
            assert!(!fill(ptr::null_mut(), 4, b"1"));
            assert!(fill(ptr::null_mut(), 0, b""));
        }
        assert_eq!(buffer, [0xee; 4]);
    }
}
