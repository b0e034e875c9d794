# Messages for Python alone: setup.py builds ros2_loc and interfaces/* through this; colcon never does.

# ROS wheels from PyPI name include folders of the machine they were made on, and CMake refuses a target with a
# missing include folder; these are dropped. On an ordinary ROS there is nothing to drop.
function(_drop_missing_includes)
  get_property(_targets DIRECTORY PROPERTY IMPORTED_TARGETS)
  foreach(_target IN LISTS _targets)
    get_target_property(_dirs ${_target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT _dirs)
      continue()
    endif()
    set(_kept "")
    foreach(_dir IN LISTS _dirs)
      if(NOT IS_ABSOLUTE "${_dir}" OR EXISTS "${_dir}")
        list(APPEND _kept "${_dir}")
      endif()
    endforeach()
    set_target_properties(${_target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${_kept}")
  endforeach()
endfunction()

# python_interfaces(<packages that the messages refer to>...): generates, compiles and exports msg/*.msg of this project.
macro(python_interfaces)
  find_package(ament_cmake REQUIRED)
  find_package(ament_cmake_python REQUIRED)
  foreach(_package
      rosidl_cmake rosidl_generator_type_description rosidl_adapter rosidl_generator_c rosidl_typesupport_c
      rosidl_typesupport_introspection_c rosidl_typesupport_fastrtps_c rosidl_generator_py ${ARGN})
    find_package(${_package} REQUIRED)
  endforeach()
  # Python needs the C side only; without the C++ generators this takes half the time.
  list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "^(rosidl_generator_cpp|rosidl_typesupport[a-z_]*_cpp):")
  file(GLOB _interfaces RELATIVE ${CMAKE_CURRENT_SOURCE_DIR} CONFIGURE_DEPENDS msg/*.msg)
  rosidl_generate_interfaces(${PROJECT_NAME} ${_interfaces} DEPENDENCIES ${ARGN})
  ament_package()
  cmake_language(DEFER CALL _drop_missing_includes)
endmacro()
