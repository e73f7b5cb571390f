"""`inline::llm-judge`: a language model of the spec judges texts, in the form of Llama Guard."""
