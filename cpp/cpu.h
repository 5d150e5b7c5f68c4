// Which bodies exist in this build, and which of them this CPU can run.
#pragma once

#include <string_view>
#include <vector>

#include "jobs.h"

namespace tilewright {

struct Candidate {
  const char* name;
  const char* needs;  // CPU features, by their usual names
  bool built;
  bool available;
};

// Best first.
const std::vector<Candidate>& candidates();

// The bodies of that name, or null if the name is unknown or this CPU or build does not support it.
const Isa* find_isa(std::string_view name);

}  // namespace tilewright
