// Diagnostic, Outcome<T>: why a statement failed, with the place in its text.
//
// A Status says what went wrong inside the engine. A Diagnostic is what the user reads: class,
// fact, place, one hint. It travels as a value from wherever the statement failed to whoever shows
// it, by RenderDiagnostic.
//
// Thread safety: plain values; concurrent const calls only.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/status.h"

namespace intarsia::query {

// Bytes [begin, end) of the text of a script; begin < 0: no place.
//
// A place is no part of what a tree says, so all ranges compare equal; that lets == on trees mean
// "the same statement".
struct SourceRange {
  int64_t begin = -1;
  int64_t end = -1;
  bool operator==(const SourceRange&) const { return true; }
};

// Both 1-based; the column counts code points.
struct SourcePosition {
  int64_t line = 1;
  int64_t column = 1;
};
// `offset` is in bytes; one outside the text counts as its nearest end.
SourcePosition PositionAt(std::string_view sql, int64_t offset);

enum class ErrorClass : uint8_t {
  kParser,       // The text is no statement.
  kBinder,       // A name, type or option in it does not fit.
  kCatalog,      // A named model or collection is missing, or there already.
  kInput,        // A value or file given by the user is bad.
  kIo,           // The file system or network refused.
  kCorruption,   // Stored bytes are damaged.
  kResource,     // Memory, disk or a queue limit.
  kUnavailable,  // Transient.
  kTimeout,
  kCancelled,
  kUnsupported,
  kInternal,
};

// For example "Parser error".
std::string_view ErrorClassName(ErrorClass error_class);

struct Diagnostic {
  ErrorClass error_class = ErrorClass::kInternal;
  std::string message;      // Lower case, one line, no full stop.
  std::string hint;         // Sentences; may be empty.
  SourceRange range;        // Where, in the text that was given to the parser.
  SourcePosition position;  // Of range.begin; set by Locate, and meaningless without a range.

  bool has_place() const { return range.begin >= 0; }
};

Diagnostic ParserError(SourceRange range, std::string message, std::string hint = {});
Diagnostic BinderError(SourceRange range, std::string message, std::string hint = {});
Diagnostic CatalogError(SourceRange range, std::string message, std::string hint = {});
Diagnostic InputError(SourceRange range, std::string message, std::string hint = {});
// A failure below the language, without a place. REQUIRES: !status.ok().
Diagnostic FromStatus(const Status& status);

// Sets `position` from `range`; `sql` is the text that the range points into.
void Locate(std::string_view sql, Diagnostic* diagnostic);

// Moves the place by `num_bytes`, where the text that was parsed is a piece of a longer script.
// Call Locate with that script afterwards.
void Shift(int64_t num_bytes, Diagnostic* diagnostic);

// Several lines, each ended by a newline:
//
//   Binder error: column "sorce" not found in collection demo
//   LINE 1: SELECT sorce FROM demo;
//                  ^
//   Did you mean "source"?
//
// The caret stands below its character as a terminal shows it: wide characters count two columns,
// tabs and control characters show as one blank. A line longer than `columns_max` is cut around the
// caret. `sql` may be empty if the text is not at hand; then the place is left out.
std::string RenderDiagnostic(const Diagnostic& diagnostic, std::string_view sql,
                             int64_t columns_max = 100);

template <typename T>
class Outcome;

// What an Outcome<T> takes as its value: anything that converts to T and is not an outcome itself.
template <typename U, typename T>
concept OutcomeValueOf = !std::same_as<std::remove_cvref_t<U>, Outcome<T>> &&
                         !std::same_as<std::remove_cvref_t<U>, Diagnostic> &&
                         !std::same_as<std::remove_cvref_t<U>, Status> && std::convertible_to<U, T>;

// A value of T, or the Diagnostic that says why there is none.
//
// Takes a Status too, so that INTARSIA_RETURN_IF_ERROR and INTARSIA_ASSIGN_OR_RETURN work in a
// function that returns an Outcome.
template <typename T>
class [[nodiscard]] Outcome {
 public:
  template <OutcomeValueOf<T> U = T>
  // NOLINTNEXTLINE(google-explicit-constructor, bugprone-forwarding-reference-overload): intended.
  Outcome(U&& value) : state_(std::in_place_index<0>, std::forward<U>(value)) {}
  // NOLINTNEXTLINE(google-explicit-constructor): `return diagnostic;` is the point.
  Outcome(Diagnostic diagnostic) : state_(std::in_place_index<1>, std::move(diagnostic)) {}
  // REQUIRES: !status.ok().
  // NOLINTNEXTLINE(google-explicit-constructor): `return status;` is the point.
  Outcome(const Status& status) : state_(std::in_place_index<1>, FromStatus(status)) {}

  bool ok() const { return state_.index() == 0; }

  // REQUIRES: !ok().
  const Diagnostic& diagnostic() const& { return *Get<1>(state_); }
  Diagnostic& diagnostic() & { return *Get<1>(state_); }
  Diagnostic&& diagnostic() && { return std::move(*Get<1>(state_)); }

  // REQUIRES: ok(). A failed check aborts, in every build type.
  T& operator*() & { return *Get<0>(state_); }
  const T& operator*() const& { return *Get<0>(state_); }
  T&& operator*() && { return std::move(*Get<0>(state_)); }
  T* operator->() { return Get<0>(state_); }
  const T* operator->() const { return Get<0>(state_); }

 private:
  template <size_t kIndex, typename State>
  static auto* Get(State& state) {
    auto* value = std::get_if<kIndex>(&state);
    INTARSIA_CHECK(value != nullptr);
    return value;
  }

  std::variant<T, Diagnostic> state_;
};

// The outcome of a step without a value: nothing, or what went wrong.
using Failure = std::optional<Diagnostic>;

}  // namespace intarsia::query

// Evaluates `expr`, an Outcome<T>, once; returns its Diagnostic on error, else moves the value to
// `lhs`, which may declare a variable.
#define INTARSIA_ASSIGN_OR_FAIL(lhs, expr) \
  INTARSIA_ASSIGN_OR_FAIL_INNER(INTARSIA_CONCAT(intarsia_outcome_, __LINE__), lhs, expr)
#define INTARSIA_ASSIGN_OR_FAIL_INNER(outcome, lhs, expr)    \
  auto outcome = (expr);                                     \
  if (!outcome.ok()) return std::move(outcome).diagnostic(); \
  lhs = *std::move(outcome)

// Evaluates `expr`, a Failure, once; returns its Diagnostic if there is one.
#define INTARSIA_FAIL_IF(expr)                                                    \
  do {                                                                            \
    if (::intarsia::query::Failure intarsia_failure = (expr); intarsia_failure) { \
      return *std::move(intarsia_failure);                                        \
    }                                                                             \
  } while (0)
