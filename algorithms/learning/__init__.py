"""Building blocks of joint models, for bundles that include the library ``learning``."""
