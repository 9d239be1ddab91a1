"""The frozen models: engines that compute log-probabilities, and the actor that scores windows with one."""
