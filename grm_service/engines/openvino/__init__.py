"""OpenVINO GenAI on a CPU."""
