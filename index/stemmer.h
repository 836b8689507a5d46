// Stemmer: words without their endings, so that "builds" and "building" compare equal.
//
// Thread safety: owned by one thread.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"

struct sb_stemmer;

namespace intarsia::index {

class Stemmer {
 public:
  // `language` as Snowball names it, for example "english".
  // Errors: kUnsupported if there is no stemmer for it.
  static Result<Stemmer> Create(const std::string& language);

  // The stem of a lower-case word in UTF-8. It need not be a word.
  std::string Stem(std::string_view word) const;

 private:
  struct Delete {
    void operator()(sb_stemmer* stemmer) const;
  };
  explicit Stemmer(sb_stemmer* stemmer) : stemmer_(stemmer) {}

  std::unique_ptr<sb_stemmer, Delete> stemmer_;
};

}  // namespace intarsia::index
