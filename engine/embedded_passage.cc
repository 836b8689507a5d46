#include "engine/embedded_passage.h"

namespace intarsia::engine {

std::string EmbeddedPassage(std::string_view title, std::span<const std::string> heading_path,
                            std::string_view text) {
  std::string passage(title);
  for (const std::string& heading : heading_path) {
    if (heading != title) passage += " > " + heading;
  }
  passage += "\n";
  passage += text;
  return passage;
}

}  // namespace intarsia::engine
