"""Doctor, up, proof, labs, down in one go, with one exit code and reports that are always written."""
