#include "storage/catalog.h"

#include <charconv>
#include <system_error>

namespace intarsia::storage {

std::string OptionOr(const Options& options, const std::string& name, std::string_view fallback) {
  const auto found = options.find(name);
  return found == options.end() ? std::string(fallback) : found->second;
}

int64_t NumberOptionOr(const Options& options, const std::string& name, int64_t fallback) {
  const auto found = options.find(name);
  if (found == options.end()) return fallback;
  int64_t number = 0;
  const char* const end = found->second.data() + found->second.size();
  const auto [rest, error] = std::from_chars(found->second.data(), end, number);
  return error == std::errc() && rest == end ? number : fallback;
}

}  // namespace intarsia::storage
