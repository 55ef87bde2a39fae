"""What people look at: progress, pictures, the report."""
