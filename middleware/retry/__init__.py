"""`retry`: tries a request again that failed before its first byte."""
