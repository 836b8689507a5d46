#include "engine/notices.h"

#include <algorithm>
#include <utility>

#include "base/counted.h"

namespace intarsia::engine {

void AddNotice(std::string notice, std::vector<std::string>* notices) {
  if (std::ranges::find(*notices, notice) == notices->end()) notices->push_back(std::move(notice));
}

query::Diagnostic WithReport(const Status& status, const DoneBefore& done) {
  query::Diagnostic diagnostic = query::FromStatus(status);
  const bool is_bad = diagnostic.error_class != query::ErrorClass::kCancelled &&
                      diagnostic.error_class != query::ErrorClass::kTimeout;
  diagnostic.hint = Counted(done.count, done.noun) + (done.count == 1 ? " was " : " were ") +
                    std::string(done.verb) + " before; " +
                    (is_bad ? "remove the cause and run" : "run") +
                    " the statement again to go on.";
  return diagnostic;
}

}  // namespace intarsia::engine
