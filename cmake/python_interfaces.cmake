# Messages for Python alone: setup.py builds ros2_loc and interfaces/* through this; colcon never does.

include(${CMAKE_CURRENT_LIST_DIR}/drop_missing_includes.cmake)

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
  drop_missing_includes_at_end()
endmacro()
