# `cmake --install` and find_package(millrace).
