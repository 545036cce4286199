"""Every code block of the README and of docs/ runs here, and every table is held to the code."""
