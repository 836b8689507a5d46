// The byte alphabet: the 256 printable characters with which byte-level BPE writes bytes.
//
// Vocabularies of this kind are stored as text, in which a byte that is not a printable character
// of Latin-1 stands as a character from U+0100 on: a blank is U+0120.
//
// Thread safety: all functions may be called concurrently.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace intarsia::model {

// The code point that stands for `byte`.
char32_t ByteAlphabetCodePoint(uint8_t byte);

// The bytes that `text` stands for; none if it has a character outside the alphabet.
std::optional<std::string> DecodeByteAlphabet(std::string_view text);

}  // namespace intarsia::model
