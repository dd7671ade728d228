"""The data floor: sources, rows, judgement, tokenised pairs, the data module. Importing it loads nothing heavy."""
