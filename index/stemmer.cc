#include "index/stemmer.h"

#include <libstemmer.h>

namespace intarsia::index {

void Stemmer::Delete::operator()(sb_stemmer* stemmer) const { sb_stemmer_delete(stemmer); }

Result<Stemmer> Stemmer::Create(const std::string& language) {
  sb_stemmer* const stemmer = sb_stemmer_new(language.c_str(), "UTF_8");
  if (stemmer == nullptr) {
    return Status(StatusCode::kUnsupported, "there is no stemmer for this language: " + language);
  }
  return Stemmer(stemmer);
}

std::string Stemmer::Stem(std::string_view word) const {
  const sb_symbol* const stem =
      sb_stemmer_stem(stemmer_.get(), reinterpret_cast<const sb_symbol*>(word.data()),
                      static_cast<int>(word.size()));
  if (stem == nullptr) return std::string(word);  // Out of memory: the word itself will do.
  return std::string(reinterpret_cast<const char*>(stem),
                     static_cast<size_t>(sb_stemmer_length(stemmer_.get())));
}

}  // namespace intarsia::index
