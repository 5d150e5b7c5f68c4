// What the files of bindings share.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <stdexcept>
#include <string>

#include "cpu.h"

namespace nb = nanobind;

namespace tilewright {

template <class T, int D>
using In = nb::ndarray<const T, nb::ndim<D>, nb::c_contig, nb::device::cpu>;
template <class T, int D>
using Out = nb::ndarray<T, nb::ndim<D>, nb::c_contig, nb::device::cpu>;

inline void require(bool holds, const char* sentence) {
  if (!holds) throw std::invalid_argument(sentence);
}

inline const Isa& isa_of(const std::string& name) {
  const Isa* isa = find_isa(name);
  if (isa == nullptr) throw std::invalid_argument("no implementation '" + name + "' on this machine");
  return *isa;
}

void bind_network(nb::module_& module);

}  // namespace tilewright
