# SPDX-License-Identifier: GPL-2.0 OR Linux-OpenIB
#
# The manual pages are written in Markdown.
include(GNUInstallDirs)
find_program(PANDOC pandoc)
if(NOT PANDOC)
	message(FATAL_ERROR "pandoc is missing, which makes the manual pages")
endif()

# man_page(NAME.SECTION): from NAME.SECTION.md
function(man_page page)
	string(REGEX MATCH "[0-9]$" section ${page})
	add_custom_command(
		OUTPUT ${page}
		COMMAND ${PANDOC} -s -f markdown -t man
			${CMAKE_CURRENT_SOURCE_DIR}/${page}.md -o ${page}
		DEPENDS ${page}.md
		VERBATIM)
	add_custom_target(man-${page} ALL DEPENDS ${page})
	install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${page}
		DESTINATION ${CMAKE_INSTALL_MANDIR}/man${section})
endfunction()

# man_alias(ALIAS PAGE): both are in section 3
function(man_alias alias page)
	file(WRITE ${CMAKE_CURRENT_BINARY_DIR}/${alias} ".so man3/${page}\n")
	install(FILES ${CMAKE_CURRENT_BINARY_DIR}/${alias}
		DESTINATION ${CMAKE_INSTALL_MANDIR}/man3)
endfunction()
